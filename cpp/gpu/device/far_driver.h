// For tests: another driver, with memory as that of a discrete GPU is. The host gets addresses that fault
// when it follows them.
#pragma once

#include <memory>

#include "gpu/device/driver.h"

namespace npu::gpu {

std::shared_ptr<Driver> make_far(std::shared_ptr<Driver> driver);

}  // namespace npu::gpu
