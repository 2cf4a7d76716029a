#pragma once

#include <memory>

#include "core/plan/device_backend.h"

namespace npu::cpu {

std::shared_ptr<const HostDevice> open_device();

}  // namespace npu::cpu
