// How many elements of its input a result of a resize stands for.
#pragma once

#include "core/geometry/image.h"

namespace npu {

struct ResizeGeometry {
  Image x, y;
  bool corners = false;                  // the outermost elements of x and y lie upon each other
  std::array<double, 3> scale{1, 1, 1};  // input elements for one result
};

ResizeGeometry resize_geometry(const ResizeAttrs& attrs, const TensorDesc& y, const TensorDesc& x);

}  // namespace npu
