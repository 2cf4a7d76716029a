#include "npu/device_info.h"

#include <utility>

#include "devices/cuda.h"
#include "devices/metal.h"
#include "npu/cpu_info.h"

namespace npu {

namespace {

DeviceInfo cpu_device() {
  const CpuInfo cpu = query_cpu_info();
  const bool limited = cpu.memory_limit_bytes != 0 && cpu.memory_limit_bytes < cpu.memory_bytes;
  return {.kind = "cpu",
          .available = true,
          .name = cpu.brand,
          .reason = "",
          .driver = "",
          .cores = cpu.usable_cores,
          .memory_bytes = limited ? cpu.memory_limit_bytes : cpu.memory_bytes,
          .features = cpu.available_features()};
}

}  // namespace

std::vector<DeviceInfo> query_devices() {
  std::vector<DeviceInfo> devices = {cpu_device(), metal_info()};
  for (DeviceInfo& gpu : cuda_infos()) devices.push_back(std::move(gpu));
  return devices;
}

}  // namespace npu
