#include "core/geometry/resize.h"
#include "support/check.h"
#include "support/descs.h"

using namespace npu;
using npu::test::desc;

namespace {

ResizeGeometry resized(ResizeAttrs::Kind kind, bool align_corners, std::vector<double> scales, const Shape& x,
                       const Shape& y) {
  ResizeAttrs attrs;
  attrs.kind = kind;
  attrs.align_corners = align_corners;
  attrs.scales = std::move(scales);
  return resize_geometry(attrs, desc(y), desc(x));
}

constexpr auto kLinear = ResizeAttrs::Kind::kLinear, kNearest = ResizeAttrs::Kind::kNearest;

}  // namespace

TEST(resize_geometry, extents_say_the_scale) {
  const ResizeGeometry g = resized(kLinear, false, {0, 0}, {1, 2, 4, 6}, {1, 2, 8, 4});
  CHECK(g.scale == (std::array<double, 3>{1, 0.5, 1.5}));
  CHECK(!g.corners);
  CHECK_EQ(g.x.at(0, 1, {0, 2, 3}), 24 + 2 * 6 + 3);
}

TEST(resize_geometry, a_factor_goes_before_extents) {
  CHECK_EQ(resized(kNearest, false, {2.5}, {1, 1, 4}, {1, 1, 9}).scale[2], 1 / 2.5);
}

TEST(resize_geometry, corners) {
  const ResizeGeometry g = resized(kLinear, true, {0, 3}, {1, 1, 5, 7}, {1, 1, 9, 1});
  CHECK(g.corners);
  CHECK_EQ(g.scale[1], 0.5);
  CHECK_EQ(g.scale[2], 0.0);  // one result
  CHECK(!resized(kNearest, true, {0, 0}, {1, 1, 5, 7}, {1, 1, 9, 1}).corners);
}
