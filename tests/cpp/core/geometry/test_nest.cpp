#include "core/geometry/nest.h"
#include "support/check.h"

using namespace npu;

TEST(nest, neighbours_merge_where_every_operand_can) {
  const Nest nest = make_nest({2, 3, 4}, {{12, 4, 1}, {24, 4, 1}});
  CHECK_EQ(nest.rank, 2);
  CHECK(nest.extent[0] == 2 && nest.inner() == 12);
  CHECK(nest.strides[1][0] == 24 && nest.step(1) == 1);
  CHECK_EQ(nest.rows, 2);
  CHECK_EQ(nest.elements(), 24);
}

TEST(nest, the_first_operand_says_the_order) {
  const Shape rows = {4, 1}, columns = {1, 3};
  const Nest nest = make_nest({3, 4}, {columns, rows});
  CHECK(nest.extent[0] == 4 && nest.inner() == 3);
  CHECK(nest.step(0) == 1 && nest.step(1) == 4);
  const Nest kept = make_nest({3, 4}, {columns, rows}, false);
  CHECK(kept.extent[0] == 3 && kept.inner() == 4);
}

TEST(nest, single_elements_are_left_out) {
  const Nest nest = make_nest({1, 5, 1}, {{100, 2, 7}});
  CHECK(nest.rank == 1 && nest.inner() == 5 && nest.step(0) == 2);
}

TEST(nest, there_always_is_an_inner_row) {
  const Nest one = make_nest({}, {{}, {}});
  CHECK(one.rank == 1 && one.elements() == 1 && one.step(1) == 1);
  CHECK_EQ(make_nest({3, 0}, {{0, 1}}).elements(), 0);
}

TEST(nest, operands_that_lie_alike) {
  CHECK(make_nest({2, 1, 3}, {{3, 7, 1}, {3, 9, 1}}).alike());  // the step of one element says nothing
  CHECK(make_nest({2, 3}, {{1, 2}, {1, 2}}).alike());
  CHECK(!make_nest({2, 3}, {{1, 2}, {3, 1}}).alike());
  CHECK(make_nest({1, 1}, {{5, 5}, {1, 1}}).alike());
}

TEST(nest, dimensions_left_out) {
  CHECK(without({2, 3, 4}, {false, true, false}) == (Shape{2, 4}));
  CHECK(only_axis(3, 1) == (std::vector<bool>{false, true, false}));
  CHECK(only_axis(0, 0).empty());
  CHECK_EQ(product({2, 3, 4}), 24);
  CHECK_EQ(product({}), 1);
}
