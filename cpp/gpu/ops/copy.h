// Launches that copy between strides, as copy and scatter need them.
#pragma once

#include "gpu/ops/launch.h"

namespace npu::gpu {

// Adds what copies input `input` of the request to output `output`, which has its shape and dtype. Where both
// lie alike, the launches are left out of runs in which they lie at one address.
void add_copy(GpuKernel& kernel, const Request& request, int output, int input);

}  // namespace npu::gpu
