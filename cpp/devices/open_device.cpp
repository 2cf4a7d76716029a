// The only file that knows every kind of device.
#include "core/run/checked_runner.h"
#include "cpu/cpu_device.h"
#include "devices/cuda.h"
#include "devices/metal.h"
#include "gpu/device/chips.h"
#include "gpu/device/gpu_device.h"
#include "gpu/device/paper_driver.h"
#include "npu/device.h"
#include "npu/device_info.h"
#include "npu/error.h"

namespace npu {

namespace {

// The best device present; an emulated one never is.
Device open_best() {
  if (!metal_is_emulated() && metal_info().available) return Device(open_metal());
  if (cuda_infos().front().available) return Device(open_cuda(0));
  return Device(cpu::open_device());
}

std::string chips_text() {
  std::string text;
  for (const auto& chip : gpu::all_chips()) {
    text += (text.empty() ? "'metal:" : ", 'metal:") + std::string(chip.name) + "'";
  }
  return text;
}

}  // namespace

Device Device::open(const std::string& kind) {
  plans_are_checked();  // throws if the environment variable is invalid
  if (kind.empty()) return open_best();
  if (kind == "cpu") return Device(cpu::open_device());
  if (const auto ordinal = cuda_ordinal(kind)) return Device(open_cuda(*ordinal));
  if (kind == "metal:emulated" && metal_is_emulated()) return Device(open_metal());
  if (kind.rfind("metal:", 0) == 0) {
    if (const auto chip = gpu::find_chip(kind.substr(6))) {
      return Device(gpu::make_device("metal", gpu::open_paper(*chip), cpu::open_device()));
    }
  }
  if (kind == "metal") metal_is_chosen();  // throws if the environment variable is invalid
  const DeviceInfo metal = metal_info();
  if (kind == "metal" && metal.available) return Device(open_metal());
  if (kind == "metal" || kind == "metal:emulated") {
    const std::string reason = kind == "metal" ? metal.reason : "this build has no emulated Metal";
    throw Error(ErrorKind::kUnavailable, {.area = "device",
                                          .what = "device " + quoted(kind) + " is not available: " + reason,
                                          .expected = metal.available ? "'cpu' or 'metal'" : "'cpu'"});
  }
  throw Error(ErrorKind::kInvalidValue,
              {.area = "device",
               .what = "there is no such kind of device",
               .got = quoted(kind),
               .expected = "'cpu', 'metal', 'cuda', or one to plan for: " + chips_text()});
}

const std::string& Device::kind() const { return backend_->kind(); }
const std::string& Device::name() const { return backend_->name(); }

Buffer Device::allocate(DType dtype, std::vector<std::int64_t> shape, bool zero) const {
  return backend_->allocate(dtype, std::move(shape), zero);
}

}  // namespace npu
