// Products that normalise the rows they multiply, on the software shader machine, against both steps in
// double.
#include "npu/buffer.h"
#include "support/gpu_machine.h"

using namespace npu;
using namespace npu::test;

namespace {

using Kind = NormAttrs::Kind;
using Finish = std::function<double(double, const std::vector<double>&)>;

const DType kFloats[] = {DType::kFloat32, DType::kFloat16, DType::kBFloat16};
constexpr double kEps = 1e-2;  // large enough to be missed where it is not added

// What the norm is told of its weight or bias.
enum class Parameter { kNone, kSame, kFloat, kSpaced };

struct Problem {
  Shape batch;
  std::int64_t m, n, k;
  DType dtype = DType::kFloat32;
  Kind kind = Kind::kRms;
  Parameter weight = Parameter::kSame, bias = Parameter::kNone;
  Layout x = Layout::kDense, b = Layout::kReversed;  // reversed: as linear holds it
  bool product_bias = false, gated = false;
  Expr epilogue = {};
  int extras = 0;
  gpu::Caps caps{};
  double shift = 0.5, scale = 1;  // of x
};

Shape with(Shape shape, std::int64_t rows, std::int64_t columns) {
  shape.push_back(rows);
  shape.push_back(columns);
  return shape;
}

// The dtype's nearest.
double rounded(DType dtype, double value) {
  Tensor one(dtype, {1});
  one.set({0}, value);
  return one.get({0});
}

std::optional<Tensor> parameter(const Problem& p, Parameter how, std::uint64_t seed) {
  if (how == Parameter::kNone) return std::nullopt;
  return random(how == Parameter::kFloat ? DType::kFloat32 : p.dtype, {p.k},
                how == Parameter::kSpaced ? Layout::kSpaced : Layout::kDense, seed);
}

// x as the norm would store it.
Tensor normalised(const Problem& p, const Tensor& x, const Tensor* weight, const Tensor* bias) {
  Tensor y(p.dtype, x.shape);
  for_each(with(p.batch, p.m, 1), [&](Shape at) {
    const auto each = [&](const std::function<void(std::int64_t)>& f) {
      for (at.back() = 0; at.back() < p.k; ++at.back()) f(at.back());
    };
    double mean = 0, squares = 0;
    if (p.kind == Kind::kLayer) each([&](std::int64_t) { mean += x.get(at) / static_cast<double>(p.k); });
    each([&](std::int64_t) { squares += std::pow(x.get(at) - mean, 2) / static_cast<double>(p.k); });
    each([&](std::int64_t i) {
      double value = (x.get(at) - mean) / std::sqrt(squares + kEps);
      if (weight != nullptr) value *= weight->get({i});
      if (bias != nullptr) value += bias->get({i});
      y.set(at, value);
    });
  });
  return y;
}

Tensor factor(const Problem& p, std::int64_t columns) {
  Tensor b = random(p.dtype, p.b == Layout::kReversed ? with({}, columns, p.k) : with({}, p.k, columns),
                    p.b == Layout::kReversed ? Layout::kDense : p.b, 2);
  if (p.b == Layout::kReversed) {
    std::swap(b.shape[0], b.shape[1]);
    std::swap(b.strides[0], b.strides[1]);
  }
  return b.expanded(with(p.batch, p.k, columns));
}

struct Operands {
  Tensor x, b, bias;
  std::optional<Tensor> norm_weight, norm_bias;
  std::vector<Tensor> extras;

  std::vector<Tensor*> pointers(bool biased) {
    std::vector<Tensor*> all = {&x, &b, biased ? &bias : nullptr, nullptr, nullptr, nullptr};
    for (Tensor& extra : extras) all.push_back(&extra);
    all.push_back(norm_weight ? &*norm_weight : nullptr);
    all.push_back(norm_bias ? &*norm_bias : nullptr);
    return all;
  }
};

Operands operands_of(const Problem& p) {
  const std::int64_t columns = p.gated ? 2 * p.n : p.n;
  Operands operands{random(p.dtype, with(p.batch, p.m, p.k), p.x, 1),
                    factor(p, columns),
                    random(p.dtype, {columns}, Layout::kDense, 3).expanded(with(p.batch, p.m, columns)),
                    parameter(p, p.weight, 4),
                    parameter(p, p.bias, 5),
                    {}};
  for_each(operands.x.shape,
           [&](const Shape& at) { operands.x.set(at, operands.x.get(at) * p.scale + p.shift); });
  for (int e = 0; e < p.extras; ++e)
    operands.extras.push_back(
        random(p.dtype, with(p.batch, p.m, p.n), Layout::kDense, 6 + static_cast<std::uint64_t>(e)));
  return operands;
}

double error_of(const Problem& p, Operands& given, const Tensor& out, const Finish& finish) {
  const Tensor rows = normalised(p, given.x, given.norm_weight ? &*given.norm_weight : nullptr,
                                 given.norm_bias ? &*given.norm_bias : nullptr);
  double difference = 0, exact = 0;
  for_each(out.shape, [&](const Shape& at) {
    const auto sum_of = [&](std::int64_t column) {
      Shape left = at, right = at;
      right.back() = column;
      double sum = p.product_bias ? given.bias.get(right) : 0;
      for (std::int64_t i = 0; i < p.k; ++i) {
        left[left.size() - 1] = right[right.size() - 2] = i;
        sum += rows.get(left) * given.b.get(right);
      }
      return sum;
    };
    std::vector<double> others;
    if (p.gated) others.push_back(sum_of(at.back() + p.n));
    for (const Tensor& extra : given.extras) others.push_back(extra.get(at));
    const double sum = sum_of(at.back()), want = finish ? finish(sum, others) : sum;
    difference += std::pow(out.get(at) - want, 2);
    exact += want * want;
  });
  return std::sqrt(difference / exact);
}

Op norm_of(const Problem& p) {
  Op op;
  op.kind = OpKind::kNorm;
  op.attrs = NormAttrs{p.kind, 1, 1, kEps};
  return op;
}

// The name of the kernel; empty where both steps had better be two.
std::string check(const Problem& p, const Finish& finish = {}) {
  Operands given = operands_of(p);
  Tensor out(p.dtype, with(p.batch, p.m, p.n));
  const Op norm = norm_of(p);
  GpuRun run{.caps = p.caps, .fused = {&norm}};
  run_gpu(gpu::make_matmul, OpKind::kMatmul, MatmulAttrs{p.gated, p.epilogue}, given.pointers(p.product_bias),
          {&out}, run);
  if (run.kernel.empty()) return {};
  CHECK_EQ(run.launches, 1u);
  const double error = error_of(p, given, out, finish);
  if (!(error <= 4 * (p.dtype == DType::kFloat32   ? 0x1p-23
                      : p.dtype == DType::kFloat16 ? 0x1p-10
                                                   : 0x1p-7))) {
    std::ostringstream text;
    text << run.kernel << " " << p.m << "x" << p.n << "x" << p.k << " dtype " << static_cast<int>(p.dtype)
         << " x " << static_cast<int>(p.x) << " b " << static_cast<int>(p.b) << " error " << error;
    report_failure(__FILE__, __LINE__, text.str());
  }
  return run.kernel;
}

gpu::Caps cores(int count) {
  gpu::Caps caps;
  caps.cores = count;
  return caps;
}

}  // namespace

TEST(kernels_normed, rows_and_widths) {
  for (const DType dtype : kFloats) {
    for (const Kind kind : {Kind::kRms, Kind::kLayer}) {
      for (const Layout b : {Layout::kReversed, Layout::kDense}) {
        for (const auto& [m, n, k] : {std::array<std::int64_t, 3>{1, 37, 2},
                                      {1, 5, 33},
                                      {2, 40, 300},
                                      {3, 20, 1031},
                                      {5, 9, 64},
                                      {8, 33, 257}}) {
          const Problem p{.batch = {}, .m = m, .n = n, .k = k, .dtype = dtype, .kind = kind, .b = b};
          CHECK_EQ(check(p), kind == Kind::kRms ? "norm[rms] + matmul[rows]" : "norm[layer] + matmul[rows]");
        }
      }
    }
  }
}

// Simdgroups that make four columns, and such that share the depth.
TEST(kernels_normed, forms) {
  for (const DType dtype : kFloats) {
    for (const Layout b : {Layout::kReversed, Layout::kDense}) {
      check({.batch = {}, .m = 1, .n = 140, .k = 70, .dtype = dtype, .b = b, .caps = cores(1)});
      check({.batch = {}, .m = 4, .n = 517, .k = 40, .dtype = dtype, .b = b, .caps = cores(1)});
    }
    check({.batch = {}, .m = 1, .n = 19, .k = 2100, .dtype = dtype, .caps = cores(40)});
    check({.batch = {3, 2}, .m = 3, .n = 24, .k = 50, .dtype = dtype, .product_bias = true});
    check({.batch = {4}, .m = 1, .n = 300, .k = 50, .dtype = dtype, .b = Layout::kDense, .caps = cores(1)});
  }
}

TEST(kernels_normed, parameters) {
  using enum Parameter;
  for (const DType dtype : kFloats) {
    for (const Kind kind : {Kind::kRms, Kind::kLayer}) {
      for (const auto& [weight, bias] :
           {std::pair{kNone, kNone}, {kFloat, kSpaced}, {kSpaced, kFloat}, {kNone, kSame}}) {
        check({.batch = {},
               .m = 2,
               .n = 21,
               .k = 300,
               .dtype = dtype,
               .kind = kind,
               .weight = weight,
               .bias = bias});
      }
    }
  }
}

TEST(kernels_normed, any_strides) {
  for (const DType dtype : kFloats) {
    for (const Layout x : kLayouts) {
      for (const Kind kind : {Kind::kRms, Kind::kLayer}) {
        check({.batch = {2}, .m = 3, .n = 20, .k = 45, .dtype = dtype, .kind = kind, .x = x});
        check({.batch = {2},
               .m = 3,
               .n = 20,
               .k = 45,
               .dtype = dtype,
               .kind = kind,
               .x = x,
               .b = Layout::kDense});
      }
    }
  }
}

TEST(kernels_normed, epilogues_and_gates) {
  const auto silu = [](double x) { return x / (1 + std::exp(-x)); };
  const Expr residual = {in(0), in(1), step(ExprOp::kAdd, 'f', 0, 1)};
  const Expr gated = {in(0), step(ExprOp::kSilu, 'f', 0), in(1), step(ExprOp::kMul, 'f', 1, 2)};
  const Expr unusual = {in(0), in(1), in(2), step(ExprOp::kMul, 'f', 0, 1), step(ExprOp::kSub, 'f', 3, 2)};
  using Others = std::vector<double>;
  for (const DType dtype : kFloats) {
    for (const std::int64_t m : {1, 3}) {
      for (const Layout b : {Layout::kReversed, Layout::kDense}) {
        Problem p{.batch = {}, .m = m, .n = 45, .k = 70, .dtype = dtype, .b = b, .product_bias = true};
        p.epilogue = residual;
        p.extras = 1;
        check(p, [](double s, const Others& e) { return s + e[0]; });
        p.epilogue = unusual;
        p.extras = 2;
        check(p, [](double s, const Others& e) { return s * e[0] - e[1]; });
        p.epilogue = gated;
        p.extras = 0;
        p.gated = true;
        CHECK_EQ(check(p, [&](double s, const Others& e) { return silu(s) * e[0]; }),
                 "norm[rms] + matmul[rows, halves]");
      }
    }
  }
}

// Rows far from zero, whose spread is small beside their mean.
TEST(kernels_normed, means_are_taken_away_exactly) {
  for (const Layout b : {Layout::kReversed, Layout::kDense}) {
    check({.batch = {}, .m = 2, .n = 30, .k = 1000, .kind = Kind::kLayer, .b = b, .shift = 1000});
    check({.batch = {}, .m = 2, .n = 30, .k = 1000, .kind = Kind::kLayer, .b = b, .shift = 0, .scale = 1e-3});
    check({.batch = {}, .m = 2, .n = 30, .k = 1000, .kind = Kind::kRms, .b = b, .shift = 0, .scale = 1e-3});
  }
}

// A norm of its own rounds what it makes, and so does this one: products of rounded rows are exactly equal.
TEST(kernels_normed, rows_are_rounded_as_a_norm_rounds_them) {
  for (const DType dtype : {DType::kFloat16, DType::kBFloat16}) {
    Problem p{.batch = {}, .m = 4, .n = 64, .k = 64, .dtype = dtype};
    Operands given = operands_of(p);
    for_each(given.b.shape, [&](const Shape& at) { given.b.set(at, at[0] == at[1] ? 1 : 0); });
    Tensor out(dtype, {p.m, p.n}), rows(dtype, {p.m, p.k});
    const Op norm = norm_of(p);
    GpuRun fused{.fused = {&norm}}, alone;
    run_gpu(gpu::make_matmul, OpKind::kMatmul, MatmulAttrs{}, given.pointers(false), {&out}, fused);
    run_gpu(gpu::make_norm, OpKind::kNorm, norm.attrs, {&given.x, &*given.norm_weight, nullptr}, {&rows},
            alone);
    for_each(out.shape, [&](const Shape& at) { CHECK_EQ(out.get(at), rows.get(at)); });
    // Sums of two columns would show what is below the last bit.
    for_each(given.b.shape, [&](const Shape& at) { given.b.set(at, at[0] / 2 == at[1] ? 1 : 0); });
    run_gpu(gpu::make_matmul, OpKind::kMatmul, MatmulAttrs{}, given.pointers(false), {&out}, fused);
    for_each({p.m, p.n / 2}, [&](const Shape& at) {
      CHECK_EQ(out.get(at), rounded(dtype, rows.get({at[0], 2 * at[1]}) + rows.get({at[0], 2 * at[1] + 1})));
    });
  }
}

TEST(kernels_normed, is_left_alone_where_it_does_not_fit) {
  const Problem few{.batch = {}, .m = 1, .n = 20, .k = 4096};
  CHECK(!check(few).empty());  // 16 KB, of which two fit
  Problem p = few;
  p.k = 4100;
  CHECK(check(p).empty());
  p.dtype = DType::kBFloat16;
  CHECK(!check(p).empty());
  p.m = 9;
  p.k = 32;
  CHECK(check(p).empty());
  p = few;
  p.n = 0;
  CHECK(check(p).empty());
  p = {.batch = {}, .m = 6, .n = 4, .k = 32, .b = Layout::kSpaced};  // the other factor would be streamed
  CHECK(check(p).empty());
  Expr six = {in(0)};
  for (int k = 1; k <= 6; ++k) {
    six.push_back(in(k));
    const int n = static_cast<int>(six.size());
    six.push_back(step(ExprOp::kAdd, 'f', n - 2, n - 1));
  }
  p = {.batch = {}, .m = 2, .n = 20, .k = 32, .epilogue = six, .extras = 6};
  CHECK(check(p).empty());
}
