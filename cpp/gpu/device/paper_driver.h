// A chip that is only described: programs can be planned for it, not run.
#pragma once

#include <memory>

#include "gpu/device/driver.h"

namespace npu::gpu {

std::shared_ptr<Driver> open_paper(Caps caps);

}  // namespace npu::gpu
