#include "npu/device_info.h"

#include "npu/build_info.h"
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
          .cores = cpu.usable_cores,
          .memory_bytes = limited ? cpu.memory_limit_bytes : cpu.memory_bytes,
          .features = cpu.available_features()};
}

DeviceInfo metal_device() {
  DeviceInfo device;
  device.kind = "metal";
  device.reason = build_info().system == "macos" ? "this version has no Metal driver yet"
                                                 : "built without Metal: not macOS";
  return device;
}

}  // namespace

std::vector<DeviceInfo> query_devices() { return {cpu_device(), metal_device()}; }

}  // namespace npu
