#include "metal.h"

#include <cstdlib>
#include <mutex>

#include "cpu_device.h"
#include "npu/build_info.h"
#include "npu/error.h"

#if NPU_METAL
#include "chips.h"
#include "gpu_device.h"
#include "metal_device.h"
#endif

namespace npu {

namespace {
constexpr const char* kEmulate = "NPU_EMULATE_METAL";
}

bool metal_is_emulated() { return NPU_METAL && build_info().system != "macos"; }

bool metal_is_chosen() {
  if (!metal_is_emulated()) return true;
  const char* const value = std::getenv(kEmulate);
  return value != nullptr && std::string_view(value) == "1";
}

#if NPU_METAL

DeviceInfo metal_info() {
  DeviceInfo device;
  device.kind = "metal";
  if (!metal_is_chosen()) {
    device.reason =
        std::string("not macOS; this build can emulate it: 'metal:emulated', or ") + kEmulate + "=1";
    return device;
  }
  const metal::Found found = metal::find_device();
  if (found.name.empty()) {
    device.reason = "no GPU of an Apple M1 or later was found";
    return device;
  }
  device.available = true;
  device.name = found.name;
  device.memory_bytes = found.memory_bytes;
  device.features = found.features;
  if (const auto chip = gpu::find_chip(found.name)) device.cores = chip->cores;
  return device;
}

std::shared_ptr<const DeviceBackend> open_metal() {
  // Never destroyed: the GPU's own libraries may be gone before it at exit.
  static std::mutex mutex;
  static auto* const device = new std::shared_ptr<const DeviceBackend>;
  const std::lock_guard lock(mutex);
  if (!*device) *device = gpu::make_device("metal", metal::open_driver(), cpu::open_device());
  return *device;
}

#else

DeviceInfo metal_info() {
  DeviceInfo device;
  device.kind = "metal";
  device.reason = "built without Metal: not macOS";
  return device;
}

std::shared_ptr<const DeviceBackend> open_metal() {
  throw Error(ErrorKind::kUnavailable, {.area = "device", .what = "built without Metal"});
}

#endif

}  // namespace npu
