// Windows over spatial dimensions: what pool and adaptive_pool share.
#pragma once

#include "cpu/element.h"
#include "cpu/ops/ops.h"
#include "cpu/strided.h"

namespace npu::cpu {

// The cells of the windows along one dimension that lie inside the input, one entry per output position.
struct WindowAxis {
  std::vector<std::int64_t> first, count, covered;  // covered: cells that an average divides by
  std::int64_t step = 1;                            // between the cells of a window
  std::int64_t extent = 1;                          // of the input
};

// `axes` has one entry per spatial dimension; `divisor` of an average, or 0 for the cells covered.
Made make_windows(const KernelRequest& request, std::vector<WindowAxis> axes, bool maximum,
                  std::int64_t divisor, const char* name);

}  // namespace npu::cpu
