// A GPU as the core sees it: kernels from metal/, run by a driver.
#pragma once

#include <memory>
#include <string>

#include "core/plan/device_backend.h"
#include "gpu/device/driver.h"

namespace npu::gpu {

// `host` prepares weights. `kind` is what users call it: "metal".
std::shared_ptr<const DeviceBackend> make_device(std::string kind, std::shared_ptr<Driver> driver,
                                                 std::shared_ptr<const HostDevice> host);

}  // namespace npu::gpu
