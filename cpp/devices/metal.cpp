#include "devices/metal.h"

#include <mutex>
#include <utility>

#include "core/base/text.h"
#include "core/run/checked_runner.h"
#include "cpu/cpu_device.h"
#include "npu/build_info.h"
#include "npu/error.h"

#if NPU_METAL
#include "gpu/device/far_driver.h"
#include "gpu/device/gpu_device.h"
#include "gpu/device/kernel_sources.h"
#include "metal/chips.h"
#include "metal/metal_device.h"
#endif

namespace npu {

namespace {
constexpr const char* kEmulate = "NPU_EMULATE_METAL";
}

bool metal_is_emulated() { return NPU_METAL && build_info().system != "macos"; }

bool metal_is_chosen() { return !metal_is_emulated() || environment_choice(kEmulate, {"0", "1"}) == "1"; }

#if NPU_METAL

namespace {

// Whether tests ask for memory that the host does not reach, as on a discrete GPU.
bool memory_is_far() { return environment_choice("NPU_FAR_MEMORY", {"0", "1"}) == "1"; }

// Whether tests ask for kernels that are NVIDIA's on the emulated GPU: 1 for all of them, 2 for Hopper's.
int tensor_cores() {
  const auto asked = environment_choice("SOFTMETAL_TENSOR_CORES", {"0", "1", "2"});
  return !metal_is_emulated() ? 0 : asked == "1" ? 1 : asked == "2" ? 2 : 0;
}

// What is read later, or where a mistake would go unnoticed.
void check_environment() {
  metal_is_chosen();
  environment_choice("NPU_SEPARATE_TENSORS", {"0", "1"});
  memory_is_far();
  plans_are_checked();
  if (metal_is_emulated()) environment_choice("SOFTMETAL_MODE", {"checked", "fast"});
  tensor_cores();
  gpu::kernels_are_replaced();
}

}  // namespace

DeviceInfo metal_info() {
  DeviceInfo device;
  device.kind = "metal";
  try {
    check_environment();
  } catch (const Error& error) {  // shown in the list of devices
    device.reason = error.what();
    return device;
  }
  if (!metal_is_chosen()) {
    device.reason =
        std::string("not macOS; this build can emulate it: 'metal:emulated', or ") + kEmulate + "=1";
    return device;
  }
  const metal::GpuInfo info = metal::find_device();
  if (info.name.empty()) {
    device.reason = "no GPU of an Apple M1 or later was found";
    return device;
  }
  device.available = true;
  device.name = info.name;
  device.memory_bytes = info.memory_bytes;
  device.features = info.features;
  if (const auto chip = gpu::find_chip(metal::kChips, info.name)) device.cores = chip->cores;
  return device;
}

std::shared_ptr<const DeviceBackend> open_metal() {
  check_environment();
  // Never destroyed: the GPU's own libraries may be gone before it at exit.
  static std::mutex mutex;
  static auto* const device = new std::shared_ptr<const DeviceBackend>;
  const std::lock_guard lock(mutex);
  if (!*device) {
    auto driver = metal::open_driver(tensor_cores());
    if (memory_is_far()) driver = gpu::make_far(std::move(driver));
    *device = gpu::make_device("metal", std::move(driver), cpu::open_device());
  }
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
