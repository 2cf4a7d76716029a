#include "npu/build_info.h"
#include "npu/cpu_info.h"
#include "npu/device_info.h"
#include "support/check.h"

TEST(cpu_info, counts_are_consistent) {
  const auto cpu = npu::query_cpu_info();
  CHECK(cpu.usable_cores >= 1);
  CHECK(cpu.usable_cores <= cpu.affinity_physical_cores);
  CHECK(cpu.affinity_physical_cores <= cpu.affinity_logical_cores);
  CHECK(cpu.affinity_logical_cores <= cpu.logical_cores);
  CHECK(cpu.physical_cores <= cpu.logical_cores);
  CHECK(cpu.cpu_quota >= 0);
  CHECK(cpu.memory_bytes > (std::uint64_t{1} << 26));
  CHECK(!cpu.brand.empty());
}

TEST(cpu_info, features_imply_each_other) {
  const auto cpu = npu::query_cpu_info();
  CHECK(!cpu.features.empty());
  CHECK(!cpu.has("avx2") || cpu.has("avx"));
  CHECK(!cpu.has("avx512bf16") || cpu.has("avx512f"));
  CHECK(!cpu.has("bf16") || cpu.has("neon"));
  CHECK(!cpu.has("no such feature"));
  for (const auto& name : cpu.available_features()) CHECK(cpu.has(name));
}

TEST(cpu_info, devices_are_present_or_say_why) {
  const auto devices = npu::query_devices();
  CHECK(devices.size() >= 3);
  CHECK_EQ(devices[0].kind, "cpu");
  CHECK(devices[0].available);
  CHECK_EQ(devices[1].kind, "metal");
  CHECK_EQ(devices[2].kind, "cuda");
  for (const auto& device : devices) {
    CHECK(device.available == device.reason.empty());
    CHECK(device.available == !device.name.empty());
    CHECK(device.available == (device.memory_bytes > 0));
  }
}

TEST(cpu_info, build_info_is_filled_in) {
  const auto& build = npu::build_info();
  CHECK(!build.version.empty());
  CHECK(!build.compiler.empty());
  CHECK(!build.build_type.empty());
  CHECK(build.system != "unknown");
  CHECK(build.architecture != "unknown");
}
