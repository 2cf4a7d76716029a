#include "core/geometry/matmul.h"
#include "support/check.h"
#include "support/descs.h"

using namespace npu;
using npu::test::desc;

TEST(matmul_geometry, one_right_hand_side_for_all_batches) {
  const TensorDesc left = desc({3, 5, 7}), right = desc({3, 7, 4}, {0, 1, 7}), out = desc({3, 5, 4});
  const MatmulGeometry g = matmul_geometry(left, right, out);
  CHECK(g.shared);
  CHECK(g.batches == 1 && g.rows == 15 && g.columns == 4 && g.depth == 7);
  CHECK(g.left_row == 7 && g.left_depth == 1 && g.right_depth == 1 && g.right_column == 7);
}

TEST(matmul_geometry, one_for_each_batch) {
  const TensorDesc left = desc({2, 3, 5, 7}), right = desc({2, 3, 7, 4}, {28, 56, 4, 1});
  const MatmulGeometry g = matmul_geometry(left, right, desc({2, 3, 5, 4}));
  CHECK(!g.shared);
  CHECK(g.batches == 6 && g.rows == 5);
}

TEST(matmul_geometry, batches_of_one_share_what_there_is) {
  const TensorDesc left = desc({1, 5, 7}), right = desc({1, 7, 4}), out = desc({1, 5, 4});
  CHECK(matmul_geometry(left, right, out).shared);
}

TEST(matmul_geometry, gated_products_have_two_columns_for_a_result) {
  const MatmulGeometry g = matmul_geometry(desc({5, 7}), desc({7, 8}), desc({5, 4}));
  CHECK_EQ(g.columns, 4);  // of the result
}

TEST(matmul_geometry, offsets_of_rows_and_batches) {
  const Shape shape = {2, 3, 4, 5}, strides = {1, 10, 100, 1000};
  CHECK_EQ(row_offset(shape, strides, 0), 0);
  CHECK_EQ(row_offset(shape, strides, 1), 100);
  CHECK_EQ(row_offset(shape, strides, 1 * 12 + 2 * 4 + 3), 1 + 20 + 300);
  CHECK_EQ(outer_offset(shape, strides, 1 * 3 + 2, 2), 1 + 20);
}
