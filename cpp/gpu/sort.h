// Sorted rows, or their beginnings: what sort and topk share.
#pragma once

#include "launch.h"
#include "ops.h"

namespace npu::gpu {

// The first `count` of each row along `axis`.
Made make_ordered(const Request& request, std::int64_t axis, bool descending, std::int64_t count,
                  const char* name);

}  // namespace npu::gpu
