#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "cpu/ops/ops.h"
#include "support/check.h"
#include "support/tensors.h"

using namespace npu;
using namespace npu::test;

namespace {

struct ConvCase {
  Shape x, w;
  std::int64_t stride = 1, low = 0, high = 0, dilation = 1, up = 1, groups = 1;
  bool bias = true, relu = false, residual = false;
};

std::int64_t extent(const ConvCase& c, std::size_t d) {
  return ((c.x[d] - 1) * c.up + 1 + c.low + c.high - c.dilation * (c.w[d] - 1) - 1) / c.stride + 1;
}

// By the definition, in double.
double expected(const ConvCase& c, const Tensor& x, const Tensor& w, const Shape& at) {
  const std::size_t spatial = at.size() - 2;
  const std::int64_t channels = c.w[1], group = at[1] / (c.w[0] / c.groups);
  Shape taps(spatial, 0);
  double sum = 0;
  for (bool more = true; more;) {
    Shape from(at.size()), filter(at.size());
    bool inside = true;
    for (std::size_t s = 0; s < spatial; ++s) {
      const std::int64_t p = at[s + 2] * c.stride - c.low + taps[s] * c.dilation;
      inside &= p >= 0 && p % c.up == 0 && p / c.up < c.x[s + 2];
      from[s + 2] = p / c.up;
      filter[s + 2] = taps[s];
    }
    from[0] = at[0];
    filter[0] = at[1];
    for (std::int64_t k = 0; inside && k < channels; ++k) {
      from[1] = group * channels + k;
      filter[1] = k;
      sum += static_cast<double>(x.at(from)) * static_cast<double>(w.at(filter));
    }
    more = false;
    for (std::size_t s = spatial; s-- > 0 && !more;) {
      more = ++taps[s] < c.w[s + 2];
      if (!more) taps[s] = 0;
    }
  }
  return sum;
}

ConvAttrs attributes(const ConvCase& c) {
  const std::size_t spatial = c.x.size() - 2;
  ConvAttrs attrs;
  const Shape same(spatial, 1);
  for (std::size_t s = 0; s < spatial; ++s) {
    attrs.stride.push_back(c.stride);
    attrs.padding_low.push_back(c.low);
    attrs.padding_high.push_back(c.high);
    attrs.dilation.push_back(c.dilation);
    attrs.input_dilation.push_back(c.up);
  }
  attrs.groups = c.groups;
  if (c.relu || c.residual) {
    ExprStep step;
    attrs.epilogue.push_back(step);
    attrs.epilogue[0].operand = 0;
    if (c.residual) {
      step.operand = 1;
      attrs.epilogue.push_back(step);
      step = ExprStep();
      step.op = ExprOp::kAdd;
      step.args[0] = 0;
      step.args[1] = 1;
      attrs.epilogue.push_back(step);
    }
    if (c.relu) {
      step = ExprStep();
      step.op = ExprOp::kRelu;
      step.args[0] = static_cast<int>(attrs.epilogue.size()) - 1;
      attrs.epilogue.push_back(step);
    }
  }
  return attrs;
}

struct Operands {
  Tensor x, w, bias, residual, y;
  Operands(const ConvCase& c, Layout layout, bool constant) {
    Shape out = {c.x[0], c.w[0]};
    for (std::size_t d = 2; d < c.x.size(); ++d) out.push_back(extent(c, d));
    x = make_tensor(c.x, layout, 1);
    w = make_tensor(c.w, Layout::kRowMajor, 2, constant);
    bias = make_tensor({c.w[0]}, Layout::kRowMajor, 3);
    residual = make_tensor(out, layout, 4);
    y = make_tensor(out, layout, 5);
  }
};

// The name of the kernel that has run.
std::string run_conv(const ConvCase& c, Operands& o, int threads) {
  Op op;
  op.kind = OpKind::kConv;
  op.attrs = attributes(c);
  std::vector<TensorDesc> inputs = {o.x.desc, o.w.desc, c.bias ? o.bias.desc : TensorDesc()};
  std::vector<Tensor*> given = {&o.x, &o.w, c.bias ? &o.bias : nullptr};
  if (c.residual) {
    inputs.push_back(o.residual.desc);
    given.push_back(&o.residual);
  }
  ThreadPool pool(threads);
  const auto kernel = cpu::make_conv({op, inputs, {o.y.desc}, threads});
  run_kernel(*kernel, given, {&o.y}, pool);
  return kernel->name();
}

double wanted(const ConvCase& c, const Operands& o, const Shape& at) {
  const double sum =
      expected(c, o.x, o.w, at) + (c.bias ? o.bias.at({at[1]}) : 0) + (c.residual ? o.residual.at(at) : 0);
  return c.relu && sum < 0 ? 0 : sum;
}

std::string check_conv(const ConvCase& c, Layout layout, bool constant, int threads) {
  Operands o(c, layout, constant);
  const std::string name = run_conv(c, o, threads);
  Difference difference;
  o.y.each([&](const Shape& at, float got) { difference.add(got, wanted(c, o, at)); });
  CHECK(difference.relative() < 1e-12);
  return name;
}

}  // namespace

TEST(cpu_conv, matches_its_definition) {
  const ConvCase cases[] = {
      {.x = {1, 3, 9, 11}, .w = {8, 3, 3, 3}, .stride = 2, .low = 1, .high = 1},
      {.x = {2, 16, 7, 7}, .w = {33, 16, 1, 1}, .relu = true, .residual = true},
      {.x = {1, 5, 8, 8},
       .w = {70, 5, 3, 3},
       .low = 2,
       .high = 1,
       .dilation = 2,
       .bias = false,
       .relu = true},
      {.x = {1, 100, 6, 5}, .w = {40, 100, 3, 3}, .low = 1, .high = 1, .residual = true},
      {.x = {2, 8, 6, 6}, .w = {12, 2, 3, 3}, .low = 1, .high = 1, .groups = 4},
      {.x = {2, 20, 9, 9},
       .w = {20, 1, 3, 3},
       .stride = 2,
       .low = 1,
       .high = 1,
       .groups = 20,
       .relu = true,
       .residual = true},
      // In groups: several in a vector, with a last one that is not whole; one in several vectors; cut sums.
      {.x = {2, 24, 7, 30}, .w = {24, 4, 3, 3}, .low = 1, .high = 1, .groups = 6, .relu = true},
      {.x = {1, 40, 9, 9},
       .w = {40, 8, 3, 3},
       .stride = 2,
       .low = 1,
       .high = 1,
       .groups = 5,
       .residual = true},
      {.x = {1, 6, 5, 40}, .w = {6, 2, 1, 3}, .low = 1, .high = 1, .dilation = 2, .groups = 3},
      {.x = {2, 48, 6, 14},
       .w = {96, 24, 3, 3},
       .low = 1,
       .high = 1,
       .groups = 2,
       .relu = true,
       .residual = true},
      {.x = {1, 80, 6, 15}, .w = {80, 40, 5, 5}, .low = 2, .high = 2, .groups = 2, .relu = true},
      // More outputs than inputs in a group: several groups in a vector, the last one not whole.
      {.x = {2, 20, 7, 30}, .w = {40, 1, 3, 3}, .stride = 2, .low = 1, .high = 1, .groups = 20, .relu = true},
      {.x = {1, 9, 5, 21}, .w = {72, 1, 7, 7}, .low = 3, .high = 3, .groups = 9},
      {.x = {1, 22, 6, 19}, .w = {44, 2, 3, 3}, .low = 1, .high = 1, .groups = 11},
      {.x = {1, 1000, 1, 20}, .w = {4000, 1, 1, 3}, .groups = 1000},
      {.x = {1, 18, 4, 5, 6}, .w = {18, 1, 2, 3, 3}, .low = 1, .high = 1, .groups = 18},
      {.x = {1, 70, 3, 3}, .w = {70, 1, 7, 7}, .low = 3, .high = 3, .groups = 70, .bias = false},
      {.x = {1, 16, 2, 2}, .w = {16, 1, 1, 1}, .low = 2, .high = 2, .groups = 16},  // pixels that see nothing
      {.x = {0, 16, 6, 6}, .w = {16, 1, 3, 3}, .groups = 16},
      {.x = {1, 16, 9, 12}, .w = {33, 16, 3, 3}, .low = 1, .high = 1, .relu = true, .residual = true},
      {.x = {2, 20, 21, 25}, .w = {40, 20, 3, 3}, .stride = 2, .low = 2, .high = 1, .dilation = 2},
      {.x = {1, 17, 10, 16}, .w = {64, 17, 2, 2}, .bias = false},
      {.x = {3, 32, 30}, .w = {5, 32, 5}, .low = 4, .high = 0, .relu = true},
      {.x = {2, 3, 30, 31}, .w = {64, 3, 7, 7}, .stride = 2, .low = 3, .high = 3, .relu = true},
      {.x = {5, 64, 64, 40}, .w = {3, 64, 3, 3}, .low = 1, .high = 1},  // more than is padded at a time
      {.x = {1, 24, 40, 9}, .w = {10, 24, 7, 1}, .low = 3, .high = 3},
      {.x = {1, 4, 5, 6}, .w = {6, 4, 3, 3}, .low = 1, .high = 2, .up = 2},
      {.x = {2, 3, 17}, .w = {5, 3, 4}, .stride = 3, .low = 2, .high = 0},
      {.x = {1, 3, 4, 5, 6}, .w = {7, 3, 2, 3, 3}, .stride = 2, .low = 1, .high = 1},
      {.x = {1, 3, 18, 17}, .w = {20, 3, 7, 7}, .stride = 2, .low = 3, .high = 3, .relu = true},
      {.x = {3, 3, 20, 23},
       .w = {70, 3, 3, 3},
       .stride = 2,
       .low = 1,
       .high = 1,
       .relu = true,
       .residual = true},
      {.x = {2, 4, 19, 26}, .w = {9, 4, 3, 5}, .low = 2, .high = 3, .dilation = 2},
      {.x = {2, 2, 12, 30}, .w = {16, 2, 5, 3}, .bias = false},  // read in place
      {.x = {1, 3, 6, 6}, .w = {4, 3, 3, 3}, .low = -1, .high = -1},
      // Few channels: long filters and rows, strides and dilation in the planes, gaps in the input, one plane
      // more than fits at a time, several blocks of channels.
      {.x = {2, 1, 5000}, .w = {1, 1, 101}, .low = 3, .high = 7},
      {.x = {1, 1, 60, 70}, .w = {1, 1, 11, 11}, .low = 5, .high = 5, .relu = true, .residual = true},
      {.x = {1, 3, 40, 90}, .w = {3, 3, 3, 5}, .stride = 2, .low = 2, .high = 1, .dilation = 3, .relu = true},
      {.x = {2, 2, 33}, .w = {4, 2, 7}, .low = 6, .high = 6, .up = 3, .residual = true},
      {.x = {1, 1, 5, 300}, .w = {2, 1, 2, 4}, .stride = 3, .low = 4, .high = 5, .up = 2, .bias = false},
      {.x = {1, 100, 7, 40}, .w = {2, 100, 3, 3}, .low = 1, .high = 1, .residual = true},
      {.x = {1, 2, 4, 5, 40}, .w = {7, 2, 2, 3, 3}, .stride = 2, .low = 1, .high = 1, .relu = true},
      {.x = {1, 1, 9, 40}, .w = {1, 1, 3, 3}, .low = -1, .high = -2},
      {.x = {2, 6, 9, 40},
       .w = {10, 3, 3, 2},
       .stride = 2,
       .low = 1,
       .high = 1,
       .groups = 2,
       .residual = true},
      // Gaps in the input: as many as taps, more, with dilation that shares a divisor with them or not, in
      // groups.
      {.x = {2, 24, 7, 9}, .w = {32, 24, 2, 2}, .low = 1, .high = 1, .up = 2, .relu = true, .residual = true},
      {.x = {1, 8, 5, 6}, .w = {6, 8, 5, 5}, .low = 4, .high = 3, .up = 3, .bias = false},
      {.x = {1, 20, 11}, .w = {40, 20, 3}, .low = 2, .high = 5, .dilation = 2, .up = 4, .relu = true},
      {.x = {1, 16, 6, 6}, .w = {16, 2, 4, 4}, .low = 3, .high = 3, .dilation = 3, .up = 2, .groups = 8},
      {.x = {1, 5, 3, 4, 5}, .w = {6, 5, 3, 3, 3}, .low = 2, .high = 2, .up = 2, .residual = true},
      // Results that see no element: between taps as far apart as the gaps, and with fewer taps than gaps.
      {.x = {1, 4, 4, 40},
       .w = {4, 2, 3, 3},
       .low = 4,
       .high = 4,
       .dilation = 2,
       .up = 2,
       .groups = 2,
       .relu = true},
      {.x = {2, 20, 5, 6}, .w = {33, 20, 2, 2}, .low = 1, .high = 1, .up = 3, .residual = true},
      {.x = {1, 3, 50}, .w = {2, 3, 2}, .low = 0, .high = 1, .up = 4},
      {.x = {0, 3, 6, 6}, .w = {4, 3, 3, 3}},
  };
  for (const ConvCase& c : cases) {
    for (const Layout layout : {Layout::kRowMajor, Layout::kChannelsLast}) {
      for (const bool constant : {false, true}) {
        check_conv(c, layout, constant, 1);
        check_conv(c, layout, constant, 3);
      }
    }
  }
}

TEST(cpu_conv, depthwise_rows_of_every_width) {
  // Every number of pixels in a tile, at both borders; the last padding is more than a tile takes.
  for (const std::int64_t columns : {3, 5, 7}) {
    for (const std::int64_t stride : {1, 2, 3}) {
      for (std::int64_t width = 1; width <= 31; ++width) {
        for (const auto& [low, high] :
             {std::pair(columns / 2, columns / 2), {columns - 1, 0}, {0, columns}}) {
          if (width + low + high < columns) continue;
          const ConvCase c{.x = {1, 20, 3, width},
                           .w = {20, 1, 2, columns},
                           .stride = stride,
                           .low = low,
                           .high = high,
                           .groups = 20,
                           .bias = width % 2 == 0,
                           .relu = width % 3 == 0,
                           .residual = width % 5 == 0};
          CHECK(check_conv(c, Layout::kChannelsLast, true, 1).starts_with("conv[depthwise"));
        }
      }
    }
  }
}

TEST(cpu_conv, transforms_tiles_of_every_shape) {
  const ConvCase cases[] = {
      {.x = {1, 32, 16, 16}, .w = {32, 32, 3, 3}, .low = 1, .high = 1},
      {.x = {1, 33, 13, 15}, .w = {70, 33, 3, 3}, .low = 1, .high = 1, .relu = true, .residual = true},
      {.x = {3, 40, 12, 10}, .w = {48, 40, 3, 3}, .bias = false, .relu = true},
      {.x = {2, 64, 20, 9}, .w = {36, 64, 3, 3}, .low = 2, .high = 1, .residual = true},
      {.x = {2, 32, 18, 31}, .w = {65, 32, 3, 3}, .low = 0, .high = 2},
      {.x = {1, 32, 22, 17}, .w = {32, 32, 3, 3}, .low = -1, .high = 1},
      {.x = {30, 34, 5, 5}, .w = {32, 34, 3, 3}, .low = 1, .high = 1},
      {.x = {1, 700, 14, 14}, .w = {32, 700, 3, 3}, .low = 1, .high = 1, .relu = true},  // cut sums
      {.x = {1, 32, 70, 66}, .w = {40, 32, 3, 3}, .low = 1, .high = 1, .residual = true},
  };
  for (const ConvCase& c : cases) {
    for (const int threads : {1, 2, 5}) {
      CHECK(check_conv(c, Layout::kChannelsLast, true, threads).starts_with("conv[winograd"));
    }
  }
}

// A tile mixes 16 pixels; what cannot be mixed must reach only the results that it belongs to.
TEST(cpu_conv, transformed_tiles_keep_infinities_apart) {
  const float infinity = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN(), large = 3e38f;
  const ConvCase c{.x = {1, 32, 21, 24}, .w = {34, 32, 3, 3}, .low = 1, .high = 1, .residual = true};
  const struct {
    Shape at;
    float value;
  } planted[] = {{{0, 3, 0, 0}, infinity}, {{0, 31, 2, 9}, nan},       {{0, 0, 8, 3}, -infinity},
                 {{0, 0, 8, 4}, infinity}, {{0, 9, 20, 23}, infinity}, {{0, 5, 12, 13}, large},
                 {{0, 5, 12, 14}, large},  {{0, 5, 13, 13}, -large},   {{0, 5, 12, 11}, -large}};
  for (const bool relu : {false, true}) {
    ConvCase with = c;
    with.relu = relu;
    Operands o(with, Layout::kChannelsLast, true);
    for (float& w : o.w.data) w *= 0.1f;
    for (const auto& [at, value] : planted) {
      std::int64_t offset = 0;
      for (std::size_t d = 0; d < at.size(); ++d) offset += at[d] * o.x.desc.strides[d];
      o.x.data[static_cast<std::size_t>(offset)] = value;
    }
    CHECK(run_conv(with, o, 2).starts_with("conv[winograd"));
    int special = 0;
    o.y.each([&](const Shape& at, float got) {
      const double want = wanted(with, o, at);
      if (std::isnan(want)) {
        CHECK(std::isnan(got));
      } else if (std::isinf(want)) {
        CHECK_EQ(static_cast<double>(got), want);
      } else {
        const bool beside_large = std::abs(at[2] - 12) < 5 && std::abs(at[3] - 13) < 5;
        CHECK(std::abs(got - want) <= (beside_large ? 1e-6 * large : 1e-5));
      }
      special += std::isfinite(want) ? 0 : 1;
    });
    CHECK(special > 100);
  }
}
