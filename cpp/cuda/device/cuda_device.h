// GPUs of NVIDIA, by the driver that is on the machine.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gpu/device/driver.h"

namespace npu::cuda {

struct GpuInfo {
  std::string name, architecture;  // "NVIDIA H200", "sm_90"
  int cores = 0;
  std::uint64_t memory_bytes = 0;
};

// Why kernels do not run on it; empty if they do.
std::string too_old(const GpuInfo& gpu);

// Those that are here; `why` says what is missing where there is none. Does not start them.
std::vector<GpuInfo> find_devices(std::string* why);

// `site_packages` may hold NVRTC. Throws where there is no such GPU, or one that cannot be used.
std::shared_ptr<gpu::Driver> open_driver(int ordinal, std::vector<std::string> site_packages);

}  // namespace npu::cuda
