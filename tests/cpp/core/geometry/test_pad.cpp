#include "core/geometry/pad.h"
#include "support/check.h"
#include "support/descs.h"

using namespace npu;
using npu::test::desc;

namespace {

std::vector<PadDim> dims_of(std::vector<std::int64_t> low, const TensorDesc& y, const TensorDesc& x) {
  PadAttrs attrs;
  attrs.low = std::move(low);
  return pad_dims(attrs, y, x);
}

}  // namespace

TEST(pad_dims, neighbours_that_are_not_padded_merge) {
  const auto dims = dims_of({0, 0, 1}, desc({2, 3, 6}), desc({2, 3, 4}));
  CHECK_EQ(dims.size(), 2u);
  CHECK(dims[0].out == 6 && dims[0].in == 6 && dims[0].y_step == 6 && dims[0].x_step == 4);
  CHECK(dims[1].out == 6 && dims[1].in == 4 && dims[1].low == 1 && dims[1].padded());
}

TEST(pad_dims, padded_ones_stay_apart) {
  const auto dims = dims_of({0, 1, 0}, desc({2, 5, 4}), desc({2, 3, 4}));
  CHECK_EQ(dims.size(), 3u);
  CHECK(!dims[0].padded() && dims[1].padded() && !dims[2].padded());
}

TEST(pad_dims, the_order_is_that_of_the_result) {
  const auto dims = dims_of({0, 2, 0}, desc({1, 8, 5}, {40, 1, 8}), desc({1, 4, 5}));
  CHECK_EQ(dims.size(), 2u);
  CHECK_EQ(dims[1].out, 8);
  CHECK_EQ(dims[1].x_step, 5);
}

TEST(pad_dims, single_elements_lead) {  // one that is cut out of three: its step says nothing
  const auto dims = dims_of({0, -1}, desc({6, 1}), desc({6, 3}));
  CHECK_EQ(dims.size(), 2u);
  CHECK_EQ(dims[0].low, -1);
  CHECK_EQ(dims[1].out, 6);
}

TEST(pad_dims, there_always_is_one) {
  for (const auto& dims : {dims_of({}, desc({}), desc({})), dims_of({0, 0}, desc({1, 1}), desc({1, 1}))}) {
    CHECK_EQ(dims.size(), 1u);
    CHECK(dims[0].out == 1 && !dims[0].padded());
  }
}
