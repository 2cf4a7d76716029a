#include "core/geometry/indexed.h"

namespace npu {

namespace {

// `dims` says of each dimension of `indexed` which one of the positions it follows; -1: an index says it.
template <class Attrs>
IndexedGeometry geometry_of(const KernelRequest& r, const Attrs& attrs, const TensorDesc& positions,
                            const TensorDesc& indexed, std::size_t first_index) {
  IndexedGeometry g;
  g.offset.assign(positions.shape.size(), 0);
  for (std::size_t d = 0; d < attrs.dims.size(); ++d) {
    if (attrs.dims[d] >= 0) g.offset[static_cast<std::size_t>(attrs.dims[d])] += indexed.strides[d];
  }
  for (std::size_t k = 0; k < attrs.axes.size(); ++k) {
    const TensorDesc& index = r.inputs[first_index + k];
    const auto d = static_cast<std::size_t>(attrs.axes[k]);
    g.axes.push_back({attrs.axes[k], indexed.shape[d], indexed.strides[d], index.dtype});
    g.indices.push_back(index.strides);
  }
  return g;
}

}  // namespace

IndexedGeometry gather_geometry(const KernelRequest& r, const GatherAttrs& attrs) {
  return geometry_of(r, attrs, r.outputs[0], r.inputs[0], 1);
}

IndexedGeometry scatter_geometry(const KernelRequest& r, const ScatterAttrs& attrs) {
  return geometry_of(r, attrs, r.inputs[1], r.outputs[0], 2);
}

bool moves_whole_rows(const Nest& nest) {
  for (std::size_t k = 2; k < nest.strides.size(); ++k) {
    if (nest.step(static_cast<int>(k)) != 0 && nest.inner() > 1) return false;
  }
  return true;
}

}  // namespace npu
