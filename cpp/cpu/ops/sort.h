#pragma once

#include "cpu/ops/ops.h"

namespace npu::cpu {

// The `count` first elements along an axis in ascending or descending order; equal ones in the order of their
// index.
KernelPtr make_ordered(const KernelRequest& request, std::int64_t axis, bool descending, std::int64_t count,
                       const char* name);

}  // namespace npu::cpu
