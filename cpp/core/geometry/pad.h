// The dimensions of a pad as they lie in memory.
#pragma once

#include "core/geometry/nest.h"

namespace npu {

struct PadDim {
  std::int64_t out = 1, in = 1,
               low = 0;  // extents, and elements before the input's; negative: so many cut off
  std::int64_t y_step = 1, x_step = 1;
  bool padded() const { return low != 0 || out != in; }
};

// The innermost one of y last. Neighbours that are not padded and that both operands can walk as one are one;
// there always is one.
std::vector<PadDim> pad_dims(const PadAttrs& attrs, const TensorDesc& y, const TensorDesc& x);

}  // namespace npu
