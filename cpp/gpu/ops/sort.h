// Sorted rows, or their beginnings: what sort and topk share.
#pragma once

#include "gpu/ops/launch.h"
#include "gpu/ops/ops.h"

namespace npu::gpu {

// The first `count` of each row along `axis`.
KernelPtr make_ordered(const Request& request, std::int64_t axis, bool descending, std::int64_t count,
                       const char* name);

// Sorts rows of n items, a 64-bit key and a 64-bit number each, that lie at the start of the scratch. There
// must be room for two such lists; returns which of the two holds the result.
int add_item_sort(GpuKernel& kernel, std::int64_t rows, std::int64_t n);

}  // namespace npu::gpu
