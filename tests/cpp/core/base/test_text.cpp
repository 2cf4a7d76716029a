#include "core/base/text.h"
#include "support/check.h"

using namespace npu;

TEST(text, says_how_many_bytes) {
  CHECK_EQ(bytes_text(0), "0 bytes");
  CHECK_EQ(bytes_text(1023), "1023 bytes");
  CHECK_EQ(bytes_text(1536), "1.5 KiB");
  CHECK_EQ(bytes_text(std::uint64_t{141} << 30), "141 GiB");
  CHECK_EQ(bytes_text(std::uint64_t{3} << 50), "3072 TiB");
}

TEST(text, trim) {
  CHECK_EQ(trim("  a b\n"), "a b");
  CHECK_EQ(trim(" \n"), "");
  CHECK_EQ(trim(""), "");
}

TEST(text, integers) {
  CHECK_EQ(parse_integer(" 42\n").value_or(-1), 42);
  CHECK_EQ(parse_integer("-1").value_or(0), -1);
  for (const char* bad : {"", " ", "4x", "x4", "4 4", "4.5", "+4", "99999999999999999999"}) {
    CHECK(!parse_integer(bad).has_value());
  }
}

TEST(text, cpu_lists) {
  CHECK(parse_cpu_list("0-3,8,10-11\n") == (std::vector<int>{0, 1, 2, 3, 8, 10, 11}));
  CHECK(parse_cpu_list("5") == std::vector<int>{5});
  for (const char* bad : {"", "a", "3-1", "1,", "-1", "0-99999999", "1--2"})
    CHECK(parse_cpu_list(bad).empty());
}

TEST(text, cpu_quota) {
  CHECK_EQ(parse_cpu_max("150000 100000\n").value_or(0), 1.5);
  for (const char* bad : {"max 100000", "", "100", "0 100000", "100 0", "a b"})
    CHECK(!parse_cpu_max(bad).has_value());
  CHECK_EQ(parse_cfs_quota("200000\n", "100000\n").value_or(0), 2.0);
  CHECK(!parse_cfs_quota("-1", "100000").has_value());
}

TEST(text, memory_limit) {
  CHECK_EQ(parse_memory_limit("1048576\n").value_or(0), 1048576u);
  for (const char* none : {"max", "9223372036854771712", "-1", "0", ""})
    CHECK(!parse_memory_limit(none).has_value());
}

TEST(text, cgroup_paths) {
  CHECK_EQ(cgroup_path("0::/user.slice/a\n", "").value_or("none"), "/user.slice/a");
  const char* const v1 = "12:cpu,cpuacct:/docker/x\n4:memory:/m\n1:name=systemd:/\n";
  CHECK_EQ(cgroup_path(v1, "cpu").value_or("none"), "/docker/x");
  CHECK_EQ(cgroup_path(v1, "memory").value_or("none"), "/m");
  CHECK(!cgroup_path(v1, "").has_value());
  CHECK(!cgroup_path("nonsense\n:", "cpu").has_value());
}

TEST(text, cpuinfo) {
  const char* const text = "processor\t: 0\nmodel name\t: Some CPU\n\nmodel name\t: Other\n";
  CHECK_EQ(cpuinfo_value(text, "model name").value_or(""), "Some CPU");
  CHECK(!cpuinfo_value(text, "CPU part").has_value());
}

TEST(text, arm_cores) {
  CHECK_EQ(arm_core_name("0x41", "0xd40"), "Arm Neoverse V1");
  CHECK_EQ(arm_core_name("0x99", "0x1"), "ARM core (implementer 0x99, part 0x1)");
}
