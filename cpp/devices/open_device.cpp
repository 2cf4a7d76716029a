// The only file that knows every kind of device.
#include "core/run/checked_runner.h"
#include "cpu/cpu_device.h"
#include "cuda/device/chips.h"
#include "devices/cuda.h"
#include "devices/metal.h"
#include "gpu/device/gpu_device.h"
#include "gpu/device/paper_driver.h"
#include "metal/chips.h"
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

// "metal:m4pro" or "cuda:h200": what the vendor states of it.
std::optional<gpu::Caps> caps_on_paper(std::string_view kind) {
  const auto colon = kind.find(':');
  if (colon == std::string_view::npos) return std::nullopt;
  const std::string_view vendor = kind.substr(0, colon), name = kind.substr(colon + 1);
  if (vendor == "metal") {
    if (const auto chip = gpu::find_chip(metal::kChips, name)) return metal::caps_of(*chip);
  }
  if (vendor == "cuda") {
    if (const auto chip = gpu::find_chip(cuda::kChips, name)) return cuda::caps_of(*chip);
  }
  return std::nullopt;
}

std::string chips_text() {
  std::string text;
  const auto list = [&](std::span<const gpu::Chip> chips, const std::string& vendor) {
    for (const gpu::Chip& chip : chips) {
      text += (text.empty() ? "'" : ", '") + vendor + ":" + std::string(chip.name) + "'";
    }
  };
  list(metal::kChips, "metal");
  list(cuda::kChips, "cuda");
  return text;
}

}  // namespace

Device Device::open(const std::string& kind) {
  plans_are_checked();  // throws if the environment variable is invalid
  if (kind.empty()) return open_best();
  if (kind == "cpu") return Device(cpu::open_device());
  if (const auto ordinal = cuda_ordinal(kind)) return Device(open_cuda(*ordinal));
  if (kind == "metal:emulated" && metal_is_emulated()) return Device(open_metal());
  if (auto caps = caps_on_paper(kind)) {
    const std::string vendor = kind.substr(0, kind.find(':'));
    return Device(gpu::make_device(vendor, gpu::open_paper(std::move(*caps)), cpu::open_device()));
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
