#include "core/geometry/attention.h"
#include "support/check.h"
#include "support/descs.h"

using namespace npu;
using npu::test::desc;

TEST(attention_geometry, heads_share_keys) {
  const AttentionGeometry g =
      attention_geometry(desc({2, 6, 5, 16}), desc({2, 3, 7, 16}), desc({2, 3, 7, 24}));
  CHECK_EQ(g.groups, 3);
  CHECK_EQ(g.heads_of_group(), 2);
  CHECK_EQ(g.rows_of_group(), 10);
  CHECK(g.queries == 5 && g.keys == 7 && g.width == 16 && g.value_width == 24);
  // Neighbouring rows are heads of one position.
  CHECK(g.head(2, 0) == 4 && g.position(0) == 0);
  CHECK(g.head(2, 1) == 5 && g.position(1) == 0);
  CHECK(g.head(2, 2) == 4 && g.position(2) == 1);
  CHECK(g.head(0, 9) == 1 && g.position(9) == 4);
}

TEST(attention_geometry, heads_of_their_own) {
  const TensorDesc q = desc({1, 4, 3, 8});
  const AttentionGeometry g = attention_geometry(q, q, q);
  CHECK_EQ(g.heads_of_group(), 1);
  CHECK(g.head(3, 2) == 3 && g.position(2) == 2);
}
