// Shapes and strides of several operands, reduced to as few dimensions as possible.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "core/plan/kernel.h"

namespace npu {

using Strides = std::array<std::int64_t, kMaxRank>;

// Several operands of one shape, walked together: dimensions are ordered by the strides of the first operand,
// extents of 1 dropped, and neighbours that every operand can walk as one are merged. The last dimension is
// the inner row. There always is one.
struct Nest {
  int rank = 1;
  Strides extent{};
  std::vector<Strides> strides;  // [operand][dimension]
  std::int64_t rows = 1;         // of all dimensions but the last; 0 when there is no element

  std::int64_t inner() const { return extent[rank - 1]; }
  std::int64_t elements() const { return rows * inner(); }
  std::int64_t step(int operand) const { return strides[operand][rank - 1]; }  // of the inner row
  bool alike() const { return strides[0] == strides[1]; }  // the first two operands lie in the same order
};

// Without `reorder` the rows are in row-major order.
Nest make_nest(const Shape& shape, const std::vector<Shape>& strides, bool reorder = true);

// The shape or strides without the dimensions for which drop[d] is set.
Shape without(const Shape& shape, const std::vector<bool>& drop);
std::vector<bool> only_axis(std::size_t rank, std::int64_t axis);  // true there

std::int64_t product(const Shape& shape);

}  // namespace npu
