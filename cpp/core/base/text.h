// Parsers for the small text files in which Linux describes a machine. Free of I/O, so that they can be
// tested.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace npu {

std::string_view trim(std::string_view text);

std::vector<std::string_view> split_lines(std::string_view text);

// A whole decimal number and nothing else, surrounding blanks aside.
std::optional<std::int64_t> parse_integer(std::string_view text);

// "0-3,8,10-11" as in /sys/devices/system/cpu/online; empty when malformed.
std::vector<int> parse_cpu_list(std::string_view text);

// cgroup v2 cpu.max: "max 100000" or "150000 100000", as cores' worth of time; nullopt when unlimited.
std::optional<double> parse_cpu_max(std::string_view text);

// cgroup v1: a quota of -1 means unlimited.
std::optional<double> parse_cfs_quota(std::string_view quota, std::string_view period);

// memory.max or memory.limit_in_bytes: "max", or a number; v1 says "unlimited" with a huge number.
std::optional<std::uint64_t> parse_memory_limit(std::string_view text);

// The path of `controller` ("" for v2) in the text of /proc/self/cgroup.
std::optional<std::string> cgroup_path(std::string_view proc_self_cgroup, std::string_view controller);

// The value of the first "key : value" line of /proc/cpuinfo.
std::optional<std::string> cpuinfo_value(std::string_view cpuinfo, std::string_view key);

// The name of an ARM core from its MIDR fields as /proc/cpuinfo prints them ("0x41", "0xd40").
std::string arm_core_name(std::string_view implementer, std::string_view part);

std::string bytes_text(std::uint64_t bytes);  // "1.5 GiB"

// What an environment variable says, which must be one of `known`; nothing when it is not set, or empty.
std::string environment_choice(const char* name, std::initializer_list<const char*> known);

}  // namespace npu
