#pragma once

#include <memory>

#include "device_backend.h"

namespace npu::cpu {

std::shared_ptr<const DeviceBackend> open_device();

}  // namespace npu::cpu
