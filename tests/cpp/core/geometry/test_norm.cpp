#include "core/geometry/norm.h"
#include "core/plan/layout.h"
#include "support/check.h"
#include "support/descs.h"

using namespace npu;
using npu::test::desc;

namespace {

NormAttrs of_kind(NormAttrs::Kind kind, std::int64_t axes, std::int64_t groups = 1) {
  NormAttrs attrs;
  attrs.kind = kind;
  attrs.axes = axes;
  attrs.groups = groups;
  return attrs;
}

constexpr auto kLayer = NormAttrs::Kind::kLayer, kRms = NormAttrs::Kind::kRms,
               kGroup = NormAttrs::Kind::kGroup;

TensorDesc channels_last(const Shape& shape) {
  return desc(shape, dense_strides(shape, Layout::kChannelsLast));
}

}  // namespace

TEST(norm_cut, the_last_dimensions_are_a_row) {
  const TensorDesc y = desc({2, 3, 4, 5}), weight = desc({4, 5}), absent;
  const NormCut cut = cut_norm(of_kind(kLayer, 2), y, y, weight, absent);
  CHECK_EQ(cut.rows.elements(), 6);
  CHECK_EQ(cut.rows.step(0), 20);
  CHECK_EQ(cut.rows.step(2), 0);
  CHECK_EQ(cut.elements.elements(), 20);
  CHECK_EQ(cut.elements.step(2), 1);
  CHECK_EQ(cut.elements.step(3), 0);
}

TEST(norm_cut, one_axis) {
  const TensorDesc y = desc({6, 8}), x = desc({6, 8}, {1, 6}), weight = desc({8}, {2});
  const NormCut cut = cut_norm(of_kind(kRms, 1), y, x, weight, weight);
  CHECK_EQ(cut.rows.inner(), 6);
  CHECK_EQ(cut.rows.step(1), 1);
  CHECK_EQ(cut.elements.inner(), 8);
  CHECK_EQ(cut.elements.step(1), 6);
  CHECK_EQ(cut.elements.step(3), 2);
}

TEST(norm_cut, a_row_of_a_group_norm_is_some_channels_and_all_that_follows) {
  const TensorDesc y = desc({2, 6, 5}), weight = desc({6}), absent;
  const NormCut cut = cut_norm(of_kind(kGroup, 0, 3), y, y, weight, absent);
  CHECK_EQ(cut.rows.elements(), 6);
  CHECK_EQ(cut.rows.step(0), 10);
  CHECK_EQ(cut.rows.step(2), 2);  // channels of a group further
  CHECK_EQ(cut.elements.elements(), 10);
  CHECK_EQ(cut.elements.rank, 2);
  CHECK_EQ(cut.elements.strides[2][0], 1);
  CHECK_EQ(cut.elements.strides[2][1], 0);
}

TEST(norm_cut, group_norms_of_nothing_but_channels) {
  const TensorDesc y = desc({4, 6}), absent;
  const NormCut cut = cut_norm(of_kind(kGroup, 0, 2), y, y, absent, absent);
  CHECK_EQ(cut.rows.elements(), 8);
  CHECK_EQ(cut.elements.inner(), 3);
}

TEST(norm_cut, pixels_are_rows_of_channels) {
  const TensorDesc y = channels_last({2, 16, 4, 5});
  const auto norm = channels_last_norm(of_kind(kGroup, 0, 4), y, y);
  CHECK(norm.has_value());
  if (!norm) return;
  CHECK_EQ(norm->images, 2);
  CHECK_EQ(norm->channels, 16);
  CHECK_EQ(norm->channels_of_group(), 4);
  CHECK_EQ(norm->pixels.inner(), 20);
  CHECK_EQ(norm->pixels.step(0), 16);
}

TEST(norm_cut, other_norms_do_not_go_by_pixels) {
  const TensorDesc y = channels_last({2, 16, 4, 5}), rows = desc({2, 16, 4, 5});
  const NormAttrs group = of_kind(kGroup, 0, 4);
  CHECK(!channels_last_norm(of_kind(kLayer, 1), y, y).has_value());
  CHECK(!channels_last_norm(group, rows, y).has_value());
  CHECK(!channels_last_norm(group, y, rows).has_value());
  const TensorDesc few = channels_last({2, 4, 4, 5});
  CHECK(!channels_last_norm(group, few, few).has_value());
  const TensorDesc part = desc({2, 16, 4, 5}, {400, 1, 100, 16});  // lines of a wider image
  CHECK(!channels_last_norm(group, y, part).has_value());
  const TensorDesc empty = channels_last({0, 16, 4, 5}), flat = desc({2, 16});
  CHECK(!channels_last_norm(group, empty, empty).has_value());
  CHECK(!channels_last_norm(group, flat, flat).has_value());
}
