#include "core/geometry/resize.h"

namespace npu {

namespace {

double scale_of(double factor, bool corners, std::int64_t in, std::int64_t out) {
  if (corners) return out > 1 ? static_cast<double>(in - 1) / static_cast<double>(out - 1) : 0.0;
  if (factor > 0) return 1.0 / factor;
  return static_cast<double>(in) / static_cast<double>(out);
}

}  // namespace

ResizeGeometry resize_geometry(const ResizeAttrs& attrs, const TensorDesc& y, const TensorDesc& x) {
  using Kind = ResizeAttrs::Kind;
  ResizeGeometry g;
  g.x = image_of(x);
  g.y = image_of(y);
  g.corners = attrs.align_corners && (attrs.kind == Kind::kLinear || attrs.kind == Kind::kCubic);
  const std::size_t missing = 3 - attrs.scales.size();
  for (std::size_t d = missing; d < 3; ++d)
    g.scale[d] = scale_of(attrs.scales[d - missing], g.corners, g.x.extent[d], g.y.extent[d]);
  return g;
}

}  // namespace npu
