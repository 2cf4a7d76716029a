// Matrix products on the software shader machine, against their definition in double.
#include "npu/buffer.h"
#include "support/gpu_machine.h"

using namespace npu;
using namespace npu::test;

namespace {

const DType kFloats[] = {DType::kFloat32, DType::kFloat16, DType::kBFloat16};

// ‖got - want‖ / ‖want‖ over a tensor.
struct Norms {
  double difference = 0, exact = 0;
  void add(double got, double want) {
    difference += (got - want) * (got - want);
    exact += want * want;
  }
  double relative() const { return exact > 0 ? std::sqrt(difference / exact) : std::sqrt(difference); }
};

double largest_error(DType dtype) {
  return 4 * (dtype == DType::kFloat32 ? 0x1p-23 : dtype == DType::kFloat16 ? 0x1p-10 : 0x1p-7);
}

struct Problem {
  Shape batch;
  std::int64_t m, n, k;
  DType dtype = DType::kFloat32;
  Layout a = Layout::kDense, b = Layout::kDense,
         out = Layout::kDense;  // dense `b` is [k, n], reversed [n, k]
  bool bias = false, shared = false;
  Expr epilogue = {};
  int extras = 0;
  gpu::Caps caps{};
  bool gated = false;  // the right side has twice the columns; extras are numbered from 2
};

Shape with(const Shape& batch, std::int64_t rows, std::int64_t columns) {
  Shape shape = batch;
  shape.push_back(rows);
  shape.push_back(columns);
  return shape;
}

// The last two dimensions swapped: a weight as linear holds it.
Tensor transposed(Tensor t) {
  const std::size_t rank = t.shape.size();
  std::swap(t.shape[rank - 1], t.shape[rank - 2]);
  std::swap(t.strides[rank - 1], t.strides[rank - 2]);
  return t;
}

Tensor factor(DType dtype, const Shape& shape, Layout layout, std::uint64_t seed) {
  const std::size_t rank = shape.size();
  if (layout != Layout::kReversed) return random(dtype, shape, layout, seed);
  Shape turned = shape;
  std::swap(turned[rank - 1], turned[rank - 2]);
  return transposed(random(dtype, turned, Layout::kDense, seed));
}

// `finish` is the epilogue in double; gated, the other sum comes before the extras.
std::string check(const Problem& p,
                  const std::function<double(double, const std::vector<double>&)>& finish = {}) {
  const Shape shape = with(p.batch, p.m, p.n);
  const std::int64_t columns = p.gated ? 2 * p.n : p.n;
  Tensor a = factor(p.dtype, with(p.batch, p.m, p.k), p.a, 1);
  Tensor b = p.shared ? factor(p.dtype, with({}, p.k, columns), p.b, 2).expanded(with(p.batch, p.k, columns))
                      : factor(p.dtype, with(p.batch, p.k, columns), p.b, 2);
  Tensor bias = random(p.dtype, {columns}, Layout::kDense, 3).expanded(with(p.batch, p.m, columns));
  Tensor out(p.dtype, shape, p.out);
  std::vector<Tensor> extras;
  for (int e = 0; e < p.extras; ++e)
    extras.push_back(random(p.dtype, shape, p.out, 4 + static_cast<std::uint64_t>(e)));
  std::vector<Tensor*> inputs = {&a, &b, p.bias ? &bias : nullptr, nullptr, nullptr, nullptr};
  for (Tensor& extra : extras) inputs.push_back(&extra);
  GpuRun run{.caps = p.caps};
  run_gpu(gpu::make_matmul, OpKind::kMatmul, MatmulAttrs{p.gated, p.epilogue}, inputs, {&out}, run);
  Norms norms;
  for_each(shape, [&](const Shape& at) {
    const auto sum_of = [&](std::int64_t column) {
      Shape left = at, right = at;
      right.back() = column;
      double sum = p.bias ? bias.get(right) : 0;
      for (std::int64_t i = 0; i < p.k; ++i) {
        left[left.size() - 1] = right[right.size() - 2] = i;
        sum += a.get(left) * b.get(right);
      }
      return sum;
    };
    const double sum = sum_of(at.back());
    std::vector<double> others;
    if (p.gated) others.push_back(sum_of(at.back() + p.n));
    for (const Tensor& extra : extras) others.push_back(extra.get(at));
    norms.add(out.get(at), finish ? finish(sum, others) : sum);
  });
  if (!(norms.relative() <= largest_error(p.dtype))) {
    std::ostringstream text;
    text << run.kernel << " " << shape_text(shape) << " depth " << p.k << " dtype "
         << static_cast<int>(p.dtype) << " layouts " << static_cast<int>(p.a) << static_cast<int>(p.b)
         << static_cast<int>(p.out) << " error " << norms.relative();
    report_failure(__FILE__, __LINE__, text.str());
  }
  return run.kernel;
}

}  // namespace

TEST(kernels_matmul, blocks_of_any_size) {
  gpu::Caps few;
  few.cores = 1;
  for (const DType dtype : kFloats) {
    for (const Layout b : {Layout::kDense, Layout::kReversed}) {
      for (const auto& [m, n, k] :
           {std::array<std::int64_t, 3>{9, 9, 1}, {33, 40, 7}, {64, 64, 64}, {70, 65, 130}}) {
        check({.batch = {}, .m = m, .n = n, .k = k, .dtype = dtype, .b = b, .bias = true});
        check({.batch = {}, .m = m, .n = n, .k = k, .dtype = dtype, .b = b, .bias = true, .caps = few});
      }
    }
  }
}

TEST(kernels_matmul, any_strides) {
  for (const DType dtype : kFloats) {
    for (const Layout a : kLayouts) {
      for (const Layout b : kLayouts) {
        for (const std::int64_t m : {1, 3, 8, 40})
          check({.batch = {2}, .m = m, .n = 37, .k = 19, .dtype = dtype, .a = a, .b = b});
      }
      check({.batch = {2, 3}, .m = 11, .n = 12, .k = 20, .dtype = dtype, .out = a, .bias = true});
      check({.batch = {2, 3}, .m = 2, .n = 12, .k = 20, .dtype = dtype, .out = a, .bias = true});
    }
  }
}

TEST(kernels_matmul, few_rows_or_columns) {
  for (const DType dtype : kFloats) {
    for (const Layout b : {Layout::kDense, Layout::kReversed}) {
      for (const std::int64_t m : {1, 2, 3, 4, 5, 8}) {
        for (const std::int64_t n : {1, 5, 160}) {
          for (const std::int64_t k : {1, 31, 264, 2050}) {
            if (k == 2050 && n == 160) continue;
            check({.batch = {}, .m = m, .n = n, .k = k, .dtype = dtype, .b = b, .bias = true});
          }
        }
      }
      check({.batch = {}, .m = 100, .n = 1, .k = 300, .dtype = dtype, .b = b, .bias = true});
      check({.batch = {3}, .m = 50, .n = 4, .k = 65, .dtype = dtype, .b = b, .bias = true});
    }
  }
}

// Where groups are enough for the cores, each simdgroup or lane makes four columns.
TEST(kernels_matmul, few_rows_and_cores) {
  gpu::Caps one;
  one.cores = 1;
  for (const DType dtype : kFloats) {
    for (const Layout b : {Layout::kDense, Layout::kReversed}) {
      for (const std::int64_t m : {1, 2, 3, 7}) {
        for (const std::int64_t n : {160, 517}) {
          check({.batch = {}, .m = m, .n = n, .k = 67, .dtype = dtype, .b = b, .bias = true, .caps = one});
        }
        check({.batch = {2}, .m = m, .n = 270, .k = 40, .dtype = dtype, .b = b, .caps = one});
      }
      check({.batch = {}, .m = 2, .n = 70, .k = 4100, .dtype = dtype, .b = b, .bias = true, .caps = one});
    }
  }
}

TEST(kernels_matmul, batches) {
  for (const std::int64_t m : {1, 4, 20}) {
    check({.batch = {3, 2}, .m = m, .n = 24, .k = 16, .b = Layout::kReversed, .bias = true, .shared = true});
    check({.batch = {3, 2}, .m = m, .n = 24, .k = 16, .b = Layout::kReversed, .bias = true});
    check({.batch = {12}, .m = m, .n = 24, .k = 16});
  }
  check({.batch = {3}, .m = 4, .n = 5, .k = 0, .bias = true});
  check({.batch = {3}, .m = 0, .n = 5, .k = 3});
}

TEST(kernels_matmul, products_of_large_depth_are_split) {
  for (const DType dtype : kFloats) {
    const std::string name = check({.batch = {2}, .m = 20, .n = 24, .k = 2100, .dtype = dtype, .bias = true});
    CHECK_EQ(name, "matmul[blocks, split]");
  }
  gpu::Caps one;
  one.cores = 1;
  check({.batch = {}, .m = 65, .n = 64, .k = 4096, .caps = one});
}

TEST(kernels_matmul, without_matrices) {
  gpu::Caps caps;
  caps.matrices = false;
  check({.batch = {2}, .m = 20, .n = 24, .k = 210, .bias = true, .caps = caps});
}

TEST(kernels_matmul, epilogues) {
  const Expr residual_relu = {in(0), in(1), step(ExprOp::kAdd, 'f', 0, 1), step(ExprOp::kRelu, 'f', 2)};
  const Expr silu = {in(0), step(ExprOp::kSilu, 'f', 0)};
  const Expr gate = {in(0), step(ExprOp::kSilu, 'f', 0), in(1), step(ExprOp::kMul, 'f', 2, 1)};
  const Expr unusual = {in(0), in(1), in(2), step(ExprOp::kMul, 'f', 0, 1), step(ExprOp::kSub, 'f', 3, 2)};
  const Expr sum_of_six = {in(0),
                           in(1),
                           step(ExprOp::kAdd, 'f', 0, 1),
                           in(2),
                           step(ExprOp::kAdd, 'f', 2, 3),
                           in(3),
                           step(ExprOp::kAdd, 'f', 4, 5),
                           in(4),
                           step(ExprOp::kAdd, 'f', 6, 7),
                           in(5),
                           step(ExprOp::kAdd, 'f', 8, 9),
                           in(6),
                           step(ExprOp::kAdd, 'f', 10, 11)};
  using Others = std::vector<double>;
  for (const DType dtype : kFloats) {
    for (const auto& [m, k] : {std::array<std::int64_t, 2>{3, 40}, {40, 30}, {40, 1200}}) {
      for (const Layout out : {Layout::kDense, Layout::kReversed, Layout::kSpaced}) {
        Problem p{.batch = {}, .m = m, .n = 45, .k = k, .dtype = dtype, .out = out, .bias = true};
        p.epilogue = residual_relu;
        p.extras = 1;
        check(p, [](double s, const Others& e) { return std::max(s + e[0], 0.0); });
        p.epilogue = gate;
        check(p, [](double s, const Others& e) { return s / (1 + std::exp(-s)) * e[0]; });
        p.epilogue = unusual;
        p.extras = 2;
        check(p, [](double s, const Others& e) { return s * e[0] - e[1]; });
        p.epilogue = silu;
        p.extras = 0;
        check(p, [](double s, const Others&) { return s / (1 + std::exp(-s)); });
      }
    }
    Problem p{.batch = {2}, .m = 9, .n = 45, .k = 20, .dtype = dtype, .epilogue = sum_of_six, .extras = 6};
    check(p, [](double s, const Others& e) { return std::accumulate(e.begin(), e.end(), s); });
  }
}

TEST(kernels_matmul, gated) {
  using Others = std::vector<double>;
  const auto silu = [](double x) { return x / (1 + std::exp(-x)); };
  const auto relu = [](double x) { return std::max(x, 0.0); };
  const Expr gated = {in(0), step(ExprOp::kSilu, 'f', 0), in(1), step(ExprOp::kMul, 'f', 1, 2)};
  const Expr cut = {in(0), step(ExprOp::kRelu, 'f', 0), in(1), step(ExprOp::kMul, 'f', 1, 2)};
  const Expr turned = {in(1), step(ExprOp::kSilu, 'f', 0), in(0), step(ExprOp::kMul, 'f', 1, 2)};
  const Expr extra = {in(0), in(1), step(ExprOp::kSub, 'f', 0, 1), in(2), step(ExprOp::kMul, 'f', 2, 3)};
  gpu::Caps one, single;
  one.cores = 1;
  single.matrices = false;
  for (const DType dtype : kFloats) {
    for (const Layout b : {Layout::kDense, Layout::kReversed, Layout::kSpaced}) {
      for (const auto& [m, n, k] : {std::array<std::int64_t, 3>{1, 45, 70},
                                    {3, 5, 33},
                                    {8, 131, 40},
                                    {1, 3, 2100},
                                    {20, 37, 40},
                                    {70, 65, 130},
                                    {40, 33, 1100}}) {
        Problem p{.batch = {}, .m = m, .n = n, .k = k, .dtype = dtype, .b = b, .bias = true};
        p.gated = true;
        for (const gpu::Caps& caps : {gpu::Caps{}, one}) {
          p.caps = caps;
          p.epilogue = k > 1000 ? cut : gated;  // of large sums, little of silu is exact
          check(p, [&](double s, const Others& e) { return (k > 1000 ? relu(s) : silu(s)) * e[0]; });
          p.bias = false;
        }
        p.epilogue = turned;
        p.extras = 0;
        if (k < 1000) check(p, [&](double s, const Others& e) { return silu(e[0]) * s; });
        p.epilogue = extra;
        p.extras = 1;
        p.bias = true;
        check(p, [&](double s, const Others& e) { return (s - e[0]) * e[1]; });
      }
    }
    for (const std::int64_t m : {2, 9}) {
      Problem p{.batch = {2}, .m = m, .n = 12, .k = 30, .dtype = dtype, .out = Layout::kSpaced, .bias = true};
      p.b = Layout::kReversed;
      p.gated = p.shared = true;
      p.epilogue = gated;
      check(p, [&](double s, const Others& e) { return silu(s) * e[0]; });
      p.caps = single;
      check(p, [&](double s, const Others& e) { return silu(s) * e[0]; });
    }
  }
}

// What kernels cannot do on the way is a map of both sums.
TEST(kernels_matmul, gated_with_many_extras) {
  Expr expr = {in(0), in(1), step(ExprOp::kSub, 'f', 0, 1)};
  for (int k = 2; k < 8; ++k) {
    expr.push_back(in(k));
    const int n = static_cast<int>(expr.size());
    expr.push_back(step(ExprOp::kAdd, 'f', n - 2, n - 1));
  }
  for (const std::int64_t m : {2, 20}) {
    Problem p{.batch = {2}, .m = m, .n = 21, .k = 30, .b = Layout::kReversed, .bias = true, .epilogue = expr};
    p.extras = 6;
    p.gated = true;
    check(p, [](double s, const std::vector<double>& e) {
      return std::accumulate(e.begin() + 1, e.end(), s - e[0]);
    });
  }
}
