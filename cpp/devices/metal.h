// Metal, as far as this build has it.
#pragma once

#include <memory>

#include "core/plan/device_backend.h"
#include "npu/device_info.h"

namespace npu {

DeviceInfo metal_info();

// Asked for by name, which the device "metal" of an emulating build is not until somebody says so.
bool metal_is_emulated();
bool metal_is_chosen();

// One for the process; throws Error when there is none.
std::shared_ptr<const DeviceBackend> open_metal();

}  // namespace npu
