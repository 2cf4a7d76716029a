#include "core/geometry/rope.h"
#include "support/check.h"
#include "support/descs.h"

using namespace npu;
using npu::test::desc;

TEST(rope_geometry, queries_keys_and_values) {
  const RopeGeometry g =
      rope_geometry(desc({2, 8, 5, 64}), desc({1, 1, 5, 32}), desc({2, 4, 5, 64}), desc({2, 4, 5, 48}));
  CHECK(g.batch == 2 && g.heads == 8 && g.length == 5 && g.width == 64);
  CHECK_EQ(g.rotated, 32);
  CHECK(g.key_heads == 4 && g.value_heads == 4 && g.value_width == 48);
  CHECK_EQ(g.all_heads(), 16);
}

TEST(rope_geometry, queries_alone) {
  const RopeGeometry g = rope_geometry(desc({1, 8, 5, 64}), desc({1, 1, 5, 64}), {}, {});
  CHECK(g.key_heads == 0 && g.value_heads == 0 && g.value_width == 0);
  CHECK_EQ(g.all_heads(), 8);
}
