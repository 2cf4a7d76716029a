// Metal, where this build has it.
#pragma once

#include <memory>

#include "core/plan/device_backend.h"
#include "npu/device_info.h"

namespace npu {

DeviceInfo metal_info();

// Whether Device("metal") may be used: a build that emulates Metal needs NPU_EMULATE_METAL=1 for that.
bool metal_is_emulated();
bool metal_is_chosen();

// One for the process; throws Error when there is none.
std::shared_ptr<const DeviceBackend> open_metal();

}  // namespace npu
