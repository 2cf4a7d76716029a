#include "core/geometry/reduce.h"
#include "support/check.h"
#include "support/descs.h"

using namespace npu;
using npu::test::desc;

TEST(reduce_cut, what_stays_and_what_goes) {
  const TensorDesc x = desc({2, 3, 4, 5});
  const TensorDesc kept = desc({2, 1, 4, 1});  // strides of an operand of x's rank
  const ReduceCut cut = cut_reduce({1, 3}, kept, x);
  CHECK_EQ(cut.results, 8);
  CHECK_EQ(cut.elements, 15);
  CHECK_EQ(cut.kept.strides[0][0], 4);
  CHECK_EQ(cut.kept.strides[1][0], 60);
  CHECK_EQ(cut.kept.step(1), 5);
  CHECK_EQ(cut.reduced.rank, 2);
  CHECK_EQ(cut.reduced.step(0), 1);
}

TEST(reduce_cut, everything) {
  const TensorDesc x = desc({3, 4}), y = desc({1, 1});
  const ReduceCut cut = cut_reduce({0, 1}, y, x);
  CHECK_EQ(cut.results, 1);
  CHECK_EQ(cut.elements, 12);
  CHECK_EQ(cut.reduced.rank, 1);
}

TEST(reduce_cut, nothing_to_add_up) {
  const TensorDesc x = desc({3, 0}), y = desc({3, 1});
  const ReduceCut cut = cut_reduce({1}, y, x);
  CHECK_EQ(cut.results, 3);
  CHECK_EQ(cut.elements, 0);
}

TEST(reduce_cut, scalars) {
  const TensorDesc x = desc({});
  const ReduceCut cut = cut_reduce({}, x, x);
  CHECK_EQ(cut.results, 1);
  CHECK_EQ(cut.elements, 1);
}
