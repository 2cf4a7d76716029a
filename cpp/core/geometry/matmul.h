// Rows, columns and depth of a matrix product, and how they lie in its operands.
#pragma once

#include "core/plan/kernel.h"

namespace npu {

// Rows are counted through the batch dimensions where every batch has the same right-hand side.
struct MatmulGeometry {
  std::size_t rank = 2;
  std::int64_t batches = 1, rows = 0, columns = 0, depth = 0;
  bool shared = true;                                                            // the right-hand side
  std::int64_t left_row = 0, left_depth = 0, right_depth = 0, right_column = 0;  // steps
};

MatmulGeometry matmul_geometry(const TensorDesc& left, const TensorDesc& right, const TensorDesc& out);
// Of the op matmul. A quantised right side has no steps of its own here.
MatmulGeometry matmul_geometry(const KernelRequest& request);

// The operands of a product or convolution that only its epilogue reads, and the number of the first of them.
inline std::size_t first_extra(OpKind kind) { return static_cast<std::size_t>(info_of(kind).expr_operand); }
std::vector<TensorDesc> extras_of(const KernelRequest& request);

// The offset of a position in all dimensions but the last `rest`, in an operand with these strides.
inline std::int64_t outer_offset(const Shape& shape, const Shape& strides, std::int64_t position,
                                 std::size_t rest) {
  std::int64_t at = 0;
  for (std::size_t d = shape.size() - rest; d-- > 0;) {
    at += position % shape[d] * strides[d];
    position /= shape[d];
  }
  return at;
}

inline std::int64_t row_offset(const Shape& shape, const Shape& strides, std::int64_t row) {
  return outer_offset(shape, strides, row, 1);
}

}  // namespace npu
