#include "core/machine/cpu_query.h"

#if defined(__APPLE__)

#include <sys/sysctl.h>

#include <algorithm>

namespace npu {

namespace {

// sysctl writes 4 or 8 bytes depending on the entry; `fallback` when there is none of that name.
std::uint64_t sysctl_number(const char* name, std::uint64_t fallback) {
  std::uint64_t value = 0;  // little-endian, so 4 bytes written into it read correctly
  std::size_t size = sizeof value;
  return sysctlbyname(name, &value, &size, nullptr, 0) == 0 ? value : fallback;
}

std::string sysctl_text(const char* name) {
  char text[256] = {};
  std::size_t size = sizeof text - 1;
  return sysctlbyname(name, text, &size, nullptr, 0) == 0 ? std::string(text) : std::string();
}

}  // namespace

bool macos_sysctl_flag(const char* name) { return sysctl_number(name, 0) != 0; }

void query_macos_machine(CpuInfo& info) {
  if (info.brand.empty()) info.brand = sysctl_text("machdep.cpu.brand_string");
  info.logical_cores = std::max(1, static_cast<int>(sysctl_number("hw.logicalcpu", 1)));
  info.physical_cores = std::max(1, static_cast<int>(sysctl_number("hw.physicalcpu", info.logical_cores)));
  // macOS has no CPU affinity and no quotas for a process.
  info.affinity_logical_cores = info.logical_cores;
  info.affinity_physical_cores = info.physical_cores;
  info.memory_bytes = sysctl_number("hw.memsize", 0);
}

}  // namespace npu

#endif
