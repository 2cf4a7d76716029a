// What the forms of matrix products share.
#pragma once

#include "core/geometry/matmul.h"
#include "cpu/gemm.h"
#include "cpu/ops/ops.h"
#include "cpu/quantized.h"

namespace npu::cpu {

inline MatmulGeometry geometry_of(const KernelRequest& r) { return matmul_geometry(r); }

// The offset of a batch's right-hand side.
inline std::int64_t right_offset(const KernelRequest& r, const MatmulGeometry& g, std::int64_t batch) {
  return g.shared ? 0 : outer_offset(r.outputs[0].shape, r.inputs[1].strides, batch, 2);
}

inline bool is_quantized(const KernelRequest& r) { return std::get<MatmulAttrs>(r.op.attrs).bits != 0; }
// The right-hand side of such a product: a row for each column.
QuantizedRows quantized_right(const KernelRequest& r);
inline QuantizedParts quantized_parts(const KernelArgs& args) {
  return {args.inputs[1], args.inputs[3], args.inputs[4], args.inputs[5]};
}
// Null where the rows are too many, or where its integers do not lie so that they can be read in words.
KernelPtr make_matmul_quantized_rows(const KernelRequest& request);
QuantizedRows::Row quantized_column(const KernelRequest& r, std::int64_t column);

// Few rows, and a right-hand side that can be read as it lies, along the depth or across.
bool few_rows(const KernelRequest& request);
KernelPtr make_matmul_rows(const KernelRequest& request);

// One column, over a left-hand side that can be read so.
bool one_column(const KernelRequest& request);
KernelPtr make_matmul_column(const KernelRequest& request);

// Many products of a few elements each.
bool tiny_products(const KernelRequest& request);
KernelPtr make_matmul_tiny(const KernelRequest& request);

KernelPtr make_matmul_integers(const KernelRequest& request);

}  // namespace npu::cpu
