#include "core/geometry/grid_sample.h"

namespace npu {

GridGeometry grid_geometry(const GridSampleAttrs& attrs, const TensorDesc& y, const TensorDesc& x,
                           const TensorDesc& grid) {
  GridGeometry g;
  g.x = image_of(x);
  g.y = image_of(y);
  const std::size_t dims = x.shape.size() - 2;
  g.first = 3 - dims;
  g.grid_batch = grid.strides[0];
  g.shift = attrs.align_corners ? 0.0f : 0.5f;
  g.keeps_nan = dims == 2;
  g.low = attrs.align_corners ? 0.0f : -0.5f;
  for (std::size_t d = g.first; d < 3; ++d) {
    const auto last = static_cast<float>(g.x.extent[d] - 1);
    g.grid_step[d] = grid.strides[1 + d - g.first];
    g.grid_coordinate[d] = static_cast<std::int64_t>(2 - d) * grid.strides[dims + 1];
    g.scale[d] = (attrs.align_corners ? last : static_cast<float>(g.x.extent[d])) / 2;
    g.span[d] = attrs.align_corners ? last : static_cast<float>(g.x.extent[d]);
  }
  return g;
}

}  // namespace npu
