// A chip that is only described: programs can be planned for it, not run.
#pragma once

#include <memory>

#include "gpu/device/chips.h"
#include "gpu/device/driver.h"

namespace npu::gpu {

std::shared_ptr<Driver> open_paper(const Chip& chip);

}  // namespace npu::gpu
