#include "core/geometry/axis.h"
#include "support/check.h"
#include "support/descs.h"

using namespace npu;
using npu::test::desc;

TEST(axis, rows_are_what_is_not_the_axis) {
  const TensorDesc y = desc({2, 3, 4}), x = desc({2, 3, 4}, {1, 8, 2});
  const AxisCut cut = cut_axis(1, {&y, &x});
  CHECK_EQ(cut.extent, 3);
  CHECK(cut.steps == (std::vector<std::int64_t>{4, 8}));
  CHECK_EQ(cut.rows.elements(), 8);
  CHECK_EQ(cut.rows.rank, 2);
  CHECK_EQ(cut.rows.strides[0][0], 12);
  CHECK_EQ(cut.rows.strides[1][0], 1);
  CHECK_EQ(cut.rows.step(0), 1);
  CHECK_EQ(cut.rows.step(1), 2);
}

TEST(axis, rows_merge_where_all_operands_can) {
  const TensorDesc y = desc({2, 3, 4});
  CHECK_EQ(cut_axis(2, {&y, &y}).rows.rank, 1);
  CHECK_EQ(cut_axis(2, {&y, &y}).rows.inner(), 6);
  const TensorDesc x = desc({2, 3, 4}, {100, 4, 1});
  CHECK_EQ(cut_axis(2, {&y, &x}).rows.rank, 2);
}

TEST(axis, the_only_dimension) {
  const TensorDesc x = desc({5});
  const AxisCut cut = cut_axis(0, {&x});
  CHECK_EQ(cut.extent, 5);
  CHECK_EQ(cut.rows.elements(), 1);
}

TEST(axis, scalars_have_one_element) {
  const TensorDesc x = desc({});
  const AxisCut cut = cut_axis(0, {&x, &x});
  CHECK_EQ(cut.extent, 1);
  CHECK(cut.steps == (std::vector<std::int64_t>{1, 1}));
  CHECK_EQ(cut.rows.elements(), 1);
}

TEST(axis, absent_operands_stay) {
  const TensorDesc x = desc({4, 6}), absent;
  const AxisCut cut = cut_axis(1, {&x, &absent, &x});
  CHECK(cut.steps == (std::vector<std::int64_t>{1, 0, 1}));
  CHECK_EQ(cut.rows.step(1), 0);
  CHECK_EQ(cut.rows.step(2), 6);
}

TEST(axis, an_operand_may_be_shorter_along_it) {  // topk
  const TensorDesc x = desc({3, 10}), values = desc({3, 2});
  const AxisCut cut = cut_axis(1, {&x, &values});
  CHECK_EQ(cut.extent, 10);
  CHECK_EQ(cut.rows.step(0), 10);
  CHECK_EQ(cut.rows.step(1), 2);
}

TEST(axis, nothing_along_other_dimensions) {
  const TensorDesc x = desc({0, 3});
  CHECK_EQ(cut_axis(1, {&x}).rows.elements(), 0);
  CHECK_EQ(cut_axis(0, {&x}).extent, 0);
}
