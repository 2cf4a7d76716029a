// The parts of query_cpu_info that differ by architecture and by operating system.
#pragma once

#include <vector>

#include "npu/cpu_info.h"

namespace npu {

#if defined(__x86_64__)
std::vector<CpuFeature> query_x86_features();
std::string query_x86_brand();
#elif defined(__aarch64__)
std::vector<CpuFeature> query_arm_features();
#endif

// Fill in brand (where still empty), cores, quota and memory.
#if defined(__linux__)
void query_linux_machine(CpuInfo& info);
std::vector<int>
affinity_cpus();  // that this process may run on, ascending; empty when the kernel does not say
#elif defined(__APPLE__)
void query_macos_machine(CpuInfo& info);
bool macos_sysctl_flag(const char* name);
#endif

}  // namespace npu
