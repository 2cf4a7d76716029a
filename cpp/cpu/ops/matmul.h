// What the two forms of matrix products share.
#pragma once

#include "cpu/gemm.h"
#include "cpu/ops/ops.h"

namespace npu::cpu {

// The offset of a row (a position in all dimensions but the last) in an operand with these strides.
inline std::int64_t row_offset(const Shape& shape, const Shape& strides, std::int64_t row) {
  std::int64_t at = 0;
  for (std::size_t d = shape.size() - 1; d-- > 0;) {
    at += row % shape[d] * strides[d];
    row /= shape[d];
  }
  return at;
}

// Rows are counted through the batch dimensions when every batch has the same right-hand side.
struct MatmulGeometry {
  explicit MatmulGeometry(const KernelRequest& r);

  // The offset of a batch's right-hand side.
  std::int64_t right(const KernelRequest& r, std::int64_t batch) const;

  std::size_t rank;
  std::int64_t batches = 1, rows = 0, columns = 0, depth = 0;
  bool shared = true;
};

// Few rows, and a right-hand side that can be read as it lies, along the depth or across.
bool few_rows(const KernelRequest& request);
Made make_matmul_rows(const KernelRequest& request);

}  // namespace npu::cpu
