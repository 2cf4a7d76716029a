// Convolutions on the software shader machine, against their definition in double.
#include "metal/constants.h"
#include "npu/buffer.h"
#include "support/gpu_machine.h"

using namespace npu;
using namespace npu::test;

namespace {

const DType kFloats[] = {DType::kFloat32, DType::kFloat16, DType::kBFloat16};

double largest_error(DType dtype) {
  return 4 * (dtype == DType::kFloat32 ? 0x1p-23 : dtype == DType::kFloat16 ? 0x1p-10 : 0x1p-7);
}

struct Problem {
  Shape x, kernel;  // of x: batch, channels, spatial
  std::int64_t out_channels = 8, groups = 1;
  Shape stride{}, low{}, high{}, dilation{}, up{};  // empty: 1, or 0
  DType dtype = DType::kFloat32;
  Layout layout = Layout::kChannelsLast, out_layout = Layout::kChannelsLast;
  bool constant = true, bias = true;
  Expr epilogue{};
  int extras = 0;
  gpu::Caps caps{};
  std::vector<gpu::FunctionConstant> constants{};
};

ConvAttrs attrs_of(const Problem& p) {
  const std::size_t spatial = p.kernel.size();
  const auto filled = [&](const Shape& given, std::int64_t usual) {
    return given.empty() ? Shape(spatial, usual) : given;
  };
  ConvAttrs attrs;
  attrs.stride = filled(p.stride, 1);
  attrs.padding_low = filled(p.low, 0);
  attrs.padding_high = filled(p.high.empty() ? p.low : p.high, 0);
  attrs.dilation = filled(p.dilation, 1);
  attrs.input_dilation = filled(p.up, 1);
  attrs.groups = p.groups;
  attrs.epilogue = p.epilogue;
  return attrs;
}

double exact(const Problem& p, const ConvAttrs& attrs, const Tensor& x, const Tensor& w, const Shape& at) {
  const std::size_t spatial = p.kernel.size();
  const std::int64_t per_group = p.x[1] / p.groups, group = at[1] / (p.out_channels / p.groups);
  double sum = 0;
  for_each(w.shape, [&](const Shape& tap) {
    if (tap[0] != 0) return;
    Shape from = at, filter = tap;
    filter[0] = at[1];
    from[1] = group * per_group + tap[1];
    for (std::size_t d = 0; d < spatial; ++d) {
      const std::int64_t position =
          at[d + 2] * attrs.stride[d] - attrs.padding_low[d] + tap[d + 2] * attrs.dilation[d];
      const std::int64_t up = attrs.input_dilation[d];
      if (position < 0 || position % up != 0 || position / up >= p.x[d + 2]) return;
      from[d + 2] = position / up;
    }
    sum += x.get(from) * w.get(filter);
  });
  return sum;
}

using Finish = std::function<double(double, const std::vector<double>&)>;

std::string check(const Problem& p, const Finish& finish = {}) {
  const ConvAttrs attrs = attrs_of(p);
  Shape out_shape = {p.x[0], p.out_channels}, w_shape = {p.out_channels, p.x[1] / p.groups};
  for (std::size_t d = 0; d < p.kernel.size(); ++d) {
    const std::int64_t dilated = p.x[d + 2] > 0 ? (p.x[d + 2] - 1) * attrs.input_dilation[d] + 1 : 0;
    const std::int64_t room = dilated + attrs.padding_low[d] + attrs.padding_high[d];
    out_shape.push_back((room - attrs.dilation[d] * (p.kernel[d] - 1) - 1) / attrs.stride[d] + 1);
    w_shape.push_back(p.kernel[d]);
  }
  Tensor x = random(p.dtype, p.x, p.layout, 1), w = random(p.dtype, w_shape, Layout::kDense, 2);
  Tensor bias = random(p.dtype, {p.out_channels}, Layout::kDense, 3), out(p.dtype, out_shape, p.out_layout);
  std::vector<Tensor> extras;
  for (int e = 0; e < p.extras; ++e)
    extras.push_back(random(p.dtype, out_shape, p.out_layout, 4 + static_cast<std::uint64_t>(e)));
  std::vector<Tensor*> inputs = {&x, &w, p.bias ? &bias : nullptr};
  for (Tensor& extra : extras) inputs.push_back(&extra);
  GpuRun run{.caps = p.caps, .constant_input = p.constant ? 1 : -1, .constants = p.constants};
  run_gpu(gpu::make_conv, OpKind::kConv, attrs, inputs, {&out}, run);
  double difference = 0, norm = 0;
  for_each(out_shape, [&](const Shape& at) {
    double want = exact(p, attrs, x, w, at) + (p.bias ? bias.get({at[1]}) : 0);
    std::vector<double> others;
    for (const Tensor& extra : extras) others.push_back(extra.get(at));
    if (finish) want = finish(want, others);
    difference += std::pow(out.get(at) - want, 2);
    norm += want * want;
  });
  const double error = std::sqrt(norm > 0 ? difference / norm : difference);
  if (!(error <= largest_error(p.dtype))) {
    std::ostringstream text;
    text << run.kernel << " " << shape_text(p.x) << " to " << shape_text(out_shape) << " kernel "
         << shape_text(p.kernel) << " groups " << p.groups << " dtype " << static_cast<int>(p.dtype)
         << " layout " << static_cast<int>(p.layout) << " error " << error;
    report_failure(__FILE__, __LINE__, text.str());
  }
  return run.kernel;
}

}  // namespace

TEST(kernels_conv, blocks) {
  for (const DType dtype : kFloats) {
    for (const std::int64_t cores : {1, 20}) {
      gpu::Caps caps;
      caps.cores = static_cast<int>(cores);
      for (const std::int64_t channels : {3, 8, 20}) {
        Problem p{.x = {1, channels, 9, 11},
                  .kernel = {3, 3},
                  .out_channels = 40,
                  .low = {1, 1},
                  .dtype = dtype,
                  .caps = caps};
        CHECK_EQ(check(p), "conv[blocks]");
        p.stride = {2, 2};
        p.x[0] = 2;
        check(p);
        p.kernel = {1, 1};
        p.low = {0, 0};
        check(p);
      }
      check({.x = {1, 3, 30, 30},
             .kernel = {7, 7},
             .out_channels = 33,
             .stride = {2, 2},
             .low = {3, 3},
             .dtype = dtype,
             .caps = caps});
      check({.x = {1, 64, 7, 7},
             .kernel = {3, 3},
             .out_channels = 36,
             .low = {1, 1},
             .dtype = dtype,
             .caps = caps});
    }
  }
}

TEST(kernels_conv, one_to_three_dimensions) {
  for (const DType dtype : kFloats) {
    for (const std::int64_t groups : {1, 2}) {
      const std::int64_t outs = 16 * groups;
      check({.x = {2, 8, 13},
             .kernel = {5},
             .out_channels = outs,
             .groups = groups,
             .stride = {2},
             .low = {2},
             .dtype = dtype});
      check({.x = {1, 4, 5, 6, 7},
             .kernel = {3, 2, 3},
             .out_channels = outs,
             .groups = groups,
             .low = {1, 0, 1},
             .dtype = dtype});
    }
  }
}

TEST(kernels_conv, geometry) {
  for (const std::int64_t outs : {3, 12}) {  // directly, and in blocks
    const Problem plain{.x = {2, 4, 8, 9}, .kernel = {3, 3}, .out_channels = outs};
    Problem p = plain;
    p.dilation = {2, 3};
    check(p);
    p = plain;
    p.up = {2, 3};
    p.low = {2, 1};
    check(p);
    p.stride = {3, 2};
    check(p);
    p = plain;
    p.low = {-1, -2};
    p.high = {1, -1};
    check(p);
    p.x = {1, 4, 0, 3};
    p.low = p.high = {2, 2};
    check(p);
  }
}

TEST(kernels_conv, any_layout) {
  for (const DType dtype : kFloats) {
    for (const Layout x : kLayouts) {
      for (const Layout out : kLayouts) {
        for (const std::int64_t outs : {3, 12}) {
          check({.x = {2, 4, 5, 6},
                 .kernel = {3, 3},
                 .out_channels = outs,
                 .low = {1, 1},
                 .dtype = dtype,
                 .layout = x,
                 .out_layout = out});
        }
        check({.x = {2, 4, 5, 6},
               .kernel = {3, 3},
               .out_channels = 4,
               .groups = 4,
               .low = {1, 1},
               .dtype = dtype,
               .layout = x,
               .out_layout = out});
      }
    }
  }
}

TEST(kernels_conv, depthwise) {
  for (const DType dtype : kFloats) {
    for (const std::int64_t channels : {2, 8, 13, 70}) {
      Problem p{.x = {2, channels, 7, 9},
                .kernel = {3, 3},
                .out_channels = channels,
                .groups = channels,
                .low = {1, 1},
                .dtype = dtype};
      CHECK_EQ(check(p), "conv[depthwise]");
      p.stride = {2, 2};
      check(p);
      p.out_channels = 2 * channels;
      CHECK_EQ(check(p), "conv[direct]");
    }
    check({.x = {1, 6, 30}, .kernel = {5}, .out_channels = 6, .groups = 6, .dtype = dtype});
    check({.x = {1, 6, 4, 5, 6}, .kernel = {2, 3, 3}, .out_channels = 6, .groups = 6, .dtype = dtype});
  }
}

// As offsets are computed in inputs whose offsets do not fit into 32 bits.
TEST(kernels_conv, wide_offsets) {
  const gpu::FunctionConstant wide{gpu::kFcConvShort, gpu::FunctionConstant::Type::kBool, 0};
  for (const Layout layout : {Layout::kDense, Layout::kChannelsLast}) {
    for (const std::int64_t groups : {1, 8}) {
      check({.x = {2, 8, 4, 5, 6},
             .kernel = {2, 3, 2},
             .groups = groups,
             .stride = {1, 2, 1},
             .low = {1, 0, 1},
             .layout = layout,
             .constants = {wide}});
    }
  }
}

TEST(kernels_conv, groups_and_weights_of_a_run) {
  check({.x = {1, 12, 6, 6}, .kernel = {3, 3}, .out_channels = 12, .groups = 3, .low = {1, 1}});
  check({.x = {1, 12, 6, 6}, .kernel = {3, 3}, .out_channels = 60, .groups = 3, .low = {1, 1}});
  CHECK_EQ(check({.x = {1, 12, 6, 6}, .kernel = {3, 3}, .out_channels = 60, .groups = 3, .constant = false}),
           "conv[direct]");
  gpu::Caps caps;
  caps.matrices = false;
  CHECK_EQ(check({.x = {1, 12, 6, 6}, .kernel = {3, 3}, .out_channels = 20, .caps = caps}), "conv[direct]");
  check({.x = {1, 0, 6, 6}, .kernel = {3, 3}, .out_channels = 20});
  check({.x = {0, 2, 6, 6}, .kernel = {3, 3}, .out_channels = 20});
}

TEST(kernels_conv, epilogues) {
  const Expr residual_relu = {in(0), in(1), step(ExprOp::kAdd, 'f', 0, 1), step(ExprOp::kRelu, 'f', 2)};
  const Expr relu6 = {in(0), constant(0), step(ExprOp::kMax, 'f', 0, 1), constant(6),
                      step(ExprOp::kMin, 'f', 2, 3)};
  const Expr unusual = {in(0), in(1), step(ExprOp::kMul, 'f', 0, 1), in(2), step(ExprOp::kSub, 'f', 2, 3)};
  Expr five = {in(0)};
  for (int k = 1; k <= 5; ++k) {
    five.push_back(in(k));
    const int n = static_cast<int>(five.size());
    five.push_back(step(ExprOp::kAdd, 'f', n - 2, n - 1));
  }
  using Others = std::vector<double>;
  for (const DType dtype : kFloats) {
    for (const std::int64_t groups : {1, 2, 8}) {
      for (const Layout out : {Layout::kChannelsLast, Layout::kDense}) {
        Problem p{.x = {1, 8, 6, 6},
                  .kernel = {3, 3},
                  .out_channels = groups == 8 ? 8 : 34,
                  .groups = groups,
                  .low = {1, 1},
                  .dtype = dtype,
                  .out_layout = out};
        p.epilogue = relu6;
        check(p, [](double s, const Others&) { return std::min(std::max(s, 0.0), 6.0); });
        p.epilogue = residual_relu;
        p.extras = 1;
        check(p, [](double s, const Others& e) { return std::max(s + e[0], 0.0); });
        p.epilogue = unusual;
        p.extras = 2;
        check(p, [](double s, const Others& e) { return s * e[0] - e[1]; });
        p.epilogue = five;
        p.extras = 5;
        check(p, [](double s, const Others& e) { return std::accumulate(e.begin(), e.end(), s); });
      }
    }
  }
}
