// Opens the Metal device of this machine: C++ from here on.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "gpu/device/driver.h"

namespace npu::metal {

struct GpuInfo {
  std::string name;  // empty: there is none
  std::uint64_t memory_bytes = 0;
  std::vector<std::string> features;
};

GpuInfo find_device();

// Throws Error when no suitable device exists. An emulated one may have tensor cores:
// those of all NVIDIA's GPUs (1) or of Hopper (2).
std::shared_ptr<gpu::Driver> open_driver(int tensor_cores = 0);

}  // namespace npu::metal
