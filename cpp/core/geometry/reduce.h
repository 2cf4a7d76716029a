// What a reduction keeps, and what it adds up.
#pragma once

#include "core/geometry/nest.h"

namespace npu {

struct ReduceCut {
  Nest kept;                  // of y and x, over the dimensions that stay
  Nest reduced;               // of x, over the others
  std::int64_t results = 0;   // of kept
  std::int64_t elements = 0;  // of each result; 0: of nothing
};

ReduceCut cut_reduce(const std::vector<std::int64_t>& axes, const TensorDesc& y, const TensorDesc& x);

}  // namespace npu
