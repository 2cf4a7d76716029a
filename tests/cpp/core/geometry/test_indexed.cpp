#include "core/geometry/indexed.h"
#include "support/check.h"
#include "support/descs.h"

using namespace npu;
using npu::test::desc;

TEST(indexed_geometry, gathered_rows) {  // out[i, j, c] = x[index[i, j], c]
  const Op op;
  GatherAttrs attrs;
  attrs.axes = {0};
  attrs.dims = {-1, 2};
  const KernelRequest r{op, {desc({10, 4}), desc({2, 3, 4}, {3, 1, 0})}, {desc({2, 3, 4})}};
  const IndexedGeometry g = gather_geometry(r, attrs);
  CHECK_EQ(g.axes.size(), 1u);
  CHECK(g.axes[0].dimension == 0 && g.axes[0].extent == 10 && g.axes[0].stride == 4);
  CHECK(g.offset == (Shape{0, 0, 1}));
  CHECK(g.indices.front() == (Shape{3, 1, 0}));
  const Nest nest = make_nest({2, 3, 4}, {r.outputs[0].strides, g.offset, g.indices[0]});
  CHECK(moves_whole_rows(nest));
  CHECK_EQ(nest.inner(), 4);
}

TEST(indexed_geometry, gathered_elements) {  // out[i, j] = x[index[i, j], j]
  const Op op;
  GatherAttrs attrs;
  attrs.axes = {0};
  attrs.dims = {-1, 1};
  const KernelRequest r{op, {desc({5, 4}), test::tensor(DType::kInt32, {3, 4})}, {desc({3, 4})}};
  const IndexedGeometry g = gather_geometry(r, attrs);
  CHECK(g.axes[0].dtype == DType::kInt32);
  CHECK(!moves_whole_rows(make_nest({3, 4}, {r.outputs[0].strides, g.offset, g.indices[0]})));
}

TEST(indexed_geometry, scatters_index_their_result) {  // out[c, index[i]] = updates[i, c]
  const Op op;
  ScatterAttrs attrs;
  attrs.axes = {1};
  attrs.dims = {1, -1};
  const KernelRequest r{op, {desc({4, 9}), desc({3, 4}), desc({3, 4}, {1, 0})}, {desc({4, 9}, {20, 2})}};
  const IndexedGeometry g = scatter_geometry(r, attrs);
  CHECK(g.offset == (Shape{0, 20}));
  CHECK(g.axes[0].extent == 9 && g.axes[0].stride == 2 && g.axes[0].dimension == 1);
}

TEST(indexed_geometry, several_dimensions_may_follow_one) {  // a diagonal
  const Op op;
  GatherAttrs attrs;
  attrs.dims = {0, 0};
  const KernelRequest r{op, {desc({3, 3})}, {desc({3})}};
  const IndexedGeometry g = gather_geometry(r, attrs);
  CHECK(g.offset == Shape{4});
  CHECK(g.axes.empty());
  CHECK(moves_whole_rows(make_nest({3}, {{1}, g.offset})));
}
