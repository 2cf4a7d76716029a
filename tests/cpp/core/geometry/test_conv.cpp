#include "core/geometry/conv.h"
#include "support/check.h"
#include "support/descs.h"

using namespace npu;
using npu::test::desc;

namespace {

ConvAttrs plain(std::size_t dims, std::int64_t groups = 1) {
  ConvAttrs attrs;
  attrs.stride = attrs.dilation = attrs.input_dilation = std::vector<std::int64_t>(dims, 1);
  attrs.padding_low = attrs.padding_high = std::vector<std::int64_t>(dims, 0);
  attrs.groups = groups;
  return attrs;
}

}  // namespace

TEST(conv_geometry, missing_dimensions_lead) {
  ConvAttrs attrs = plain(1);
  attrs.stride = {2};
  attrs.padding_low = {3};
  const ConvGeometry g = conv_geometry(attrs, desc({2, 4, 10}), desc({6, 4, 3}), desc({2, 6, 7}));
  CHECK(g.in == (Triple{1, 1, 10}));
  CHECK(g.out == (Triple{1, 1, 7}));
  CHECK(g.kernel == (Triple{1, 1, 3}));
  CHECK(g.stride == (Triple{1, 1, 2}));
  CHECK(g.low == (Triple{0, 0, 3}));
  CHECK(g.x_step == (Triple{0, 0, 1}));
  CHECK_EQ(g.x_batch, 40);
  CHECK_EQ(g.out_channel, 7);
  CHECK_EQ(g.pixels(), 14);
  CHECK_EQ(g.depth(), 12);
  CHECK(!g.depthwise());
  CHECK(!g.spreads());
}

TEST(conv_geometry, groups) {
  const ConvGeometry g =
      conv_geometry(plain(2, 2), desc({1, 4, 5, 5}), desc({6, 2, 3, 3}), desc({1, 6, 3, 3}));
  CHECK_EQ(g.group_in(), 2);
  CHECK_EQ(g.group_out(), 3);
  CHECK(!g.depthwise());
  const TensorDesc image = desc({1, 4, 5, 5});
  CHECK(conv_geometry(plain(2, 4), image, desc({4, 1, 1, 1}), image).depthwise());
  CHECK(!conv_geometry(plain(2, 4), image, desc({8, 1, 1, 1}), desc({1, 8, 5, 5})).depthwise());
}

TEST(conv_geometry, taps_and_weights) {
  const ConvGeometry g =
      conv_geometry(plain(3), desc({1, 2, 9, 9, 9}), desc({5, 2, 2, 3, 4}), desc({1, 5, 8, 7, 6}));
  CHECK_EQ(g.taps(), 24);
  CHECK(g.tap(0) == (Triple{0, 0, 0}));
  CHECK(g.tap(23) == (Triple{1, 2, 3}));
  CHECK(g.tap(17) == (Triple{1, 1, 1}));
  // Column 3, tap 17, channel 1 of [5][2][2][3][4].
  CHECK_EQ(g.weight_at(3, 17 * 2 + 1), 3 * 48 + 24 + 17);
}

TEST(conv_geometry, sources_of_padded_and_dilated_windows) {
  ConvAttrs attrs = plain(1);
  attrs.stride = {2};
  attrs.padding_low = {1};
  attrs.dilation = {3};
  const ConvGeometry g = conv_geometry(attrs, desc({1, 1, 6}), desc({1, 1, 2}), desc({1, 1, 3}));
  CHECK_EQ(g.source(2, 0, 0), -1);  // padding before the input
  CHECK_EQ(g.source(2, 0, 1), 2);
  CHECK_EQ(g.source(2, 2, 0), 3);
  CHECK_EQ(g.source(2, 2, 1), -1);  // beyond its end
}

TEST(conv_geometry, sources_between_spread_elements) {
  ConvAttrs attrs = plain(1);
  attrs.input_dilation = {2};
  const ConvGeometry g = conv_geometry(attrs, desc({1, 1, 3}), desc({1, 1, 1}), desc({1, 1, 5}));
  CHECK(g.spreads());
  const std::int64_t wanted[] = {0, -1, 1, -1, 2};
  for (std::int64_t o = 0; o < 5; ++o) CHECK_EQ(g.source(2, o, 0), wanted[o]);
  CHECK_EQ(g.source(2, 6, 0), -1);
}

TEST(conv_geometry, evenly_spaced_pixels) {
  const auto step = [](const ConvAttrs& attrs, const TensorDesc& x, const Shape& out, std::int64_t k = 1) {
    return conv_geometry(attrs, x, desc({1, 4, k, k}), desc(out)).even_pixel_step();
  };
  const TensorDesc last = desc({2, 4, 3, 5}, {60, 1, 20, 4});
  CHECK_EQ(step(plain(2), last, {2, 1, 3, 5}), 4);
  CHECK_EQ(step(plain(2), desc({2, 4, 3, 5}, {80, 1, 20, 4}), {2, 1, 3, 5}), 0);  // a gap between images
  CHECK_EQ(step(plain(2), last, {2, 1, 2, 4}, 2), 0);
  ConvAttrs strided = plain(2);
  strided.stride = {1, 2};
  CHECK_EQ(step(strided, last, {2, 1, 3, 3}), 0);
}

TEST(conv_geometry, pixels_in_order) {
  const ConvGeometry g = conv_geometry(plain(2), desc({2, 1, 3, 4}), desc({1, 1, 2, 2}), desc({2, 1, 2, 3}));
  Pixel walked(g, 0);
  for (std::int64_t i = 0; i < g.pixels(); ++i, walked.next(g)) {
    const Pixel direct(g, i);
    CHECK(walked.n == direct.n && walked.d == direct.d && walked.h == direct.h && walked.w == direct.w);
  }
}

TEST(conv_geometry, names_of_weights) { CHECK_EQ(weight_text(desc({2, 3, 1}, {3, 1, 7})), " 2 3 1,3,1,7"); }

TEST(image, absent_operands_stay) {
  const Image image = image_of(TensorDesc{});
  CHECK_EQ(image.batch_step, 0);
  CHECK_EQ(image.channel_step, 0);
  CHECK(image.step == (Triple{0, 0, 0}));
  CHECK(image.extent == (Triple{1, 1, 1}));
}

TEST(image, numbers_for_each_dimension) {
  CHECK(spatial({4, 5}, 1) == (Triple{1, 4, 5}));
  CHECK(spatial({3, 4, 5}, 0) == (Triple{3, 4, 5}));
}

TEST(image, who_are_neighbours) {
  CHECK(channels_innermost(desc({1, 8, 4, 4}, {128, 1, 32, 8})));
  CHECK(!channels_innermost(desc({1, 8, 4, 4})));
  CHECK(channels_innermost(desc({1, 8, 4, 1})));  // one pixel in a row
  CHECK(!channels_innermost(desc({1, 1, 4, 4})));
}
