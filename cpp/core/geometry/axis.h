// One axis of some operands, and the rest of them: what softmax, scans and sorts go over.
#pragma once

#include "core/geometry/nest.h"

namespace npu {

// Operands of one shape, but for their extent along the axis. Absent ones do not move.
struct AxisCut {
  std::int64_t extent = 1;          // of the first operand along the axis
  std::vector<std::int64_t> steps;  // of each operand along the axis
  Nest rows;                        // over the other dimensions, in the order of the operands
};

// Of an operand along an axis; a scalar has one element.
inline std::int64_t extent_along(const TensorDesc& operand, std::int64_t axis) {
  return operand.shape.empty() ? 1 : operand.shape[static_cast<std::size_t>(axis)];
}

AxisCut cut_axis(std::int64_t axis, const std::vector<const TensorDesc*>& operands);

}  // namespace npu
