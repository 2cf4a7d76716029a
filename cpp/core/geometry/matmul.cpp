#include "core/geometry/matmul.h"

#include <utility>

namespace npu {

MatmulGeometry matmul_geometry(const TensorDesc& left, const TensorDesc& right, const TensorDesc& out) {
  MatmulGeometry g;
  g.rank = out.shape.size();
  for (std::size_t d = 0; d + 2 < g.rank; ++d) {
    g.batches *= out.shape[d];
    if (out.shape[d] > 1 && right.strides[d] != 0) g.shared = false;
  }
  g.rows = out.shape[g.rank - 2];
  if (g.shared) g.rows *= std::exchange(g.batches, 1);
  g.columns = out.shape[g.rank - 1];
  g.depth = left.shape[g.rank - 1];
  g.left_row = left.strides[g.rank - 2];
  g.left_depth = left.strides[g.rank - 1];
  g.right_depth = right.strides[g.rank - 2];
  g.right_column = right.strides[g.rank - 1];
  return g;
}

MatmulGeometry matmul_geometry(const KernelRequest& request) {
  TensorDesc right = request.inputs[1];
  if (std::get<MatmulAttrs>(request.op.attrs).bits != 0)
    right.strides.assign(request.outputs[0].shape.size(), 0);
  return matmul_geometry(request.inputs[0], right, request.outputs[0]);
}

std::vector<TensorDesc> extras_of(const KernelRequest& request) {
  const std::size_t first = first_extra(request.op.kind);
  if (request.inputs.size() <= first) return {};
  return {request.inputs.begin() + static_cast<std::ptrdiff_t>(first), request.inputs.end()};
}

}  // namespace npu
