// NVIDIA's GPUs: found at run time, in every build.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/plan/device_backend.h"
#include "npu/device_info.h"

namespace npu {

// One for each GPU, "cuda", "cuda:1", ...; at least one, which says what is missing.
std::vector<DeviceInfo> cuda_infos();

// Which GPU a kind means: 0 for "cuda"; nothing for another kind of device.
std::optional<int> cuda_ordinal(std::string_view kind);

// One for the process and the GPU; throws Error when it cannot be used.
std::shared_ptr<const DeviceBackend> open_cuda(int ordinal);

}  // namespace npu
