// What tests hand to the makers of GPU kernels.
#pragma once

#include "gpu/device/caps.h"
#include "support/descs.h"

namespace npu::test {

inline gpu::Caps cores(int count) {
  gpu::Caps caps;
  caps.cores = count;
  return caps;
}

}  // namespace npu::test
