// Where an op that samples at given positions finds them, and how they count the elements of its input.
#pragma once

#include "core/geometry/image.h"

namespace npu {

struct GridGeometry {
  Image x, y;
  std::size_t first = 1;         // spatial dimension of `x` that the grid has
  std::int64_t grid_batch = 0;   // steps
  Triple grid_step{0, 0, 0};     // from result to result
  Triple grid_coordinate{};      // to the coordinate along each dimension
  std::array<float, 3> scale{};  // element g * scale + scale - shift lies at g
  float shift = 0;
  bool keeps_nan = false;  // a position that is not finite gives NaN, not what lies outside: as in PyTorch
  // Reflection: the first of two borders, and the distance between them.
  float low = 0;
  std::array<float, 3> span{};
};

GridGeometry grid_geometry(const GridSampleAttrs& attrs, const TensorDesc& y, const TensorDesc& x,
                           const TensorDesc& grid);

}  // namespace npu
