#include "core/geometry/window.h"
#include "support/check.h"
#include "support/descs.h"

using namespace npu;
using npu::test::desc;

namespace {

KernelRequest request_of(const Op& op, const Shape& x, const Shape& y) { return {op, {desc(x)}, {desc(y)}}; }

bool is(const WindowSpan& span, std::int64_t first, std::int64_t count, std::int64_t covered) {
  return span.first == first && span.count == count && span.covered == covered;
}

}  // namespace

TEST(window_geometry, pooling) {
  const Op op;
  PoolAttrs attrs;
  attrs.kernel = {3, 2};
  attrs.stride = {2, 1};
  attrs.padding = {1, 0};
  attrs.dilation = {1, 2};
  const WindowGeometry g = pool_geometry(request_of(op, {2, 8, 7, 6}, {2, 8, 4, 4}), attrs);
  CHECK(g.window == (Triple{1, 3, 2}));
  CHECK(g.padding == (Triple{0, 1, 0}));
  CHECK(g.dilation == (Triple{1, 1, 2}));
  CHECK(g.x.extent == (Triple{1, 7, 6}));
  CHECK_EQ(g.positions(), 42);
  CHECK_EQ(g.y.at(1, 3, {0, 2, 1}), 128 + 3 * 16 + 2 * 4 + 1);
  CHECK_EQ(g.indices.batch_step, 0);  // there is no such result
  CHECK(is(pool_span(g, 0, 0, true), 0, 1, 1));
  CHECK(is(pool_span(g, 1, 0, true), 0, 2, 3));  // one cell of padding before
  CHECK(is(pool_span(g, 1, 0, false), 0, 2, 2));
  CHECK(is(pool_span(g, 1, 3, true), 5, 2, 3));
  CHECK(is(pool_span(g, 2, 3, false), 3, 2, 2));
}

TEST(window_geometry, windows_beyond_the_padding) {  // as ceil_mode makes them
  const Op op;
  PoolAttrs attrs;
  attrs.kernel = {3};
  attrs.stride = {3};
  attrs.padding = {1};
  attrs.dilation = {1};
  const WindowGeometry g = pool_geometry(request_of(op, {1, 1, 6}, {1, 1, 3}), attrs);
  CHECK(is(pool_span(g, 2, 2, true), 5, 1, 2));
  CHECK(is(pool_span(g, 2, 2, false), 5, 1, 1));
}

TEST(window_geometry, dilated_windows_that_start_in_the_padding) {
  const Op op;
  PoolAttrs attrs;
  attrs.kernel = {3};
  attrs.stride = {1};
  attrs.padding = {3};
  attrs.dilation = {2};
  const WindowGeometry g = pool_geometry(request_of(op, {1, 1, 4}, {1, 1, 6}), attrs);
  CHECK(is(pool_span(g, 2, 0, false), 1, 1, 1));  // cells -3, -1, 1
  CHECK(is(pool_span(g, 2, 1, false), 0, 2, 2));  // cells -2, 0, 2
}

TEST(window_geometry, adaptive_windows_cover_the_input) {
  const Op op;
  const WindowGeometry g = window_geometry(request_of(op, {1, 1, 7}, {1, 1, 3}));
  CHECK(is(adaptive_span(g, 2, 0), 0, 3, 3));
  CHECK(is(adaptive_span(g, 2, 1), 2, 3, 3));
  CHECK(is(adaptive_span(g, 2, 2), 4, 3, 3));
  CHECK(is(adaptive_span(g, 1, 0), 0, 1, 1));
}
