// What the processor can do, and how much of it this process may use.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace npu {

// An instruction set extension that kernels may be written for. `available` is true when both the processor
// and the operating system support it.
struct CpuFeature {
  std::string name;
  bool available = false;
};

struct CpuInfo {
  std::string brand;
  std::string architecture;          // x86_64 or arm64
  std::vector<CpuFeature> features;  // all that are known for this architecture, present or not
  int logical_cores = 1;             // of the machine
  int physical_cores = 1;            // of the machine
  int affinity_logical_cores = 1;    // those this process may be scheduled on
  int affinity_physical_cores = 1;
  double cpu_quota = 0;                  // cores' worth of time granted by the cgroup; 0 when unlimited
  int usable_cores = 1;                  // physical cores within affinity and quota (rounded up), at least 1
  std::uint64_t memory_bytes = 0;        // of the machine
  std::uint64_t memory_limit_bytes = 0;  // granted by the cgroup; 0 when unlimited

  bool has(const std::string& feature) const;
  std::vector<std::string> available_features() const;
};

// Measured now: affinity and quotas may change while a process runs.
CpuInfo query_cpu_info();

}  // namespace npu
