// The one place that knows every kind of device.
#include "cpu_device.h"
#include "npu/device.h"
#include "npu/device_info.h"
#include "npu/error.h"

namespace npu {

Device Device::open(const std::string& kind) {
  if (kind.empty() || kind == "cpu") return Device(cpu::open_device());
  for (const DeviceInfo& info : query_devices()) {
    if (info.kind != kind) continue;
    throw Error(ErrorKind::kUnavailable,
                {.area = "device",
                 .what = "device " + quoted(kind) + " is not available: " + info.reason,
                 .expected = "'cpu'"});
  }
  throw Error(ErrorKind::kInvalidValue, {.area = "device",
                                         .what = "there is no such kind of device",
                                         .got = quoted(kind),
                                         .expected = "'cpu' or 'metal'"});
}

const std::string& Device::kind() const { return backend_->kind(); }
const std::string& Device::name() const { return backend_->name(); }

}  // namespace npu
