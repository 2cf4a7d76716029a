// Elementwise expressions on the software shader machine, against the C library in double and the CPU's
// kernel.
#include "npu/buffer.h"
#include "support/gpu_machine.h"

using namespace npu;
using namespace npu::test;

namespace {

const DType kAll[] = {DType::kFloat32, DType::kFloat16, DType::kBFloat16, DType::kInt8, DType::kInt16,
                      DType::kInt32,   DType::kInt64,   DType::kUInt8,    DType::kBool};
constexpr double kHuge = 1e30;

struct Function {
  ExprOp op;
  double low, high;  // of the arguments
  double (*exact)(double);
};

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double hard(double x) { return std::min(std::max(x + 3, 0.0), 6.0) / 6; }

const Function kFunctions[] = {
    {ExprOp::kExp, -20, 20, std::exp},
    {ExprOp::kExp2, -20, 20, std::exp2},
    {ExprOp::kExpm1, -4, 4, std::expm1},
    {ExprOp::kExpm1, -1e-3, 1e-3, std::expm1},
    {ExprOp::kExpm1, -60, 60, std::expm1},
    {ExprOp::kLog, 1e-6, 100, std::log},
    {ExprOp::kLog2, 1e-6, 100, std::log2},
    {ExprOp::kLog10, 1e-6, 100, std::log10},
    {ExprOp::kLog1p, -0.999, 2, std::log1p},
    {ExprOp::kLog1p, -1e-4, 1e-4, std::log1p},
    {ExprOp::kLog1p, 0, kHuge, std::log1p},
    {ExprOp::kSqrt, 0, 100, std::sqrt},
    {ExprOp::kRsqrt, 1e-3, 100, [](double x) { return 1 / std::sqrt(x); }},
    {ExprOp::kReciprocal, 0.1, 100, [](double x) { return 1 / x; }},
    {ExprOp::kSin, -30, 30, std::sin},
    {ExprOp::kSin, -1e8, 1e8, std::sin},
    {ExprOp::kCos, -1e8, 1e8, std::cos},
    {ExprOp::kTan, -1.4, 1.4, std::tan},
    {ExprOp::kAsin, -1, 1, std::asin},
    {ExprOp::kAcos, -1, 1, std::acos},
    {ExprOp::kAtan, -9, 9, std::atan},
    {ExprOp::kSinh, -9, 9, std::sinh},
    {ExprOp::kCosh, -9, 9, std::cosh},
    {ExprOp::kTanh, -9, 9, std::tanh},
    {ExprOp::kTanh, -1e-2, 1e-2, std::tanh},
    {ExprOp::kAsinh, -9, 9, std::asinh},
    {ExprOp::kAcosh, 1, 9, std::acosh},
    {ExprOp::kAtanh, -0.99, 0.99, std::atanh},
    {ExprOp::kErf, -4, 4, std::erf},
    {ExprOp::kErf, -1e-3, 1e-3, std::erf},
    {ExprOp::kErfc, -4, 4, std::erfc},
    {ExprOp::kErfc, 1, 5, std::erfc},
    {ExprOp::kSigmoid, -30, 30, sigmoid},
    {ExprOp::kSigmoid, -80, -20, sigmoid},
    {ExprOp::kSilu, -30, 30, [](double x) { return x * sigmoid(x); }},
    {ExprOp::kGelu, -6, 6, [](double x) { return x * std::erfc(-x * M_SQRT1_2) / 2; }},
    {ExprOp::kGelu, -5, -0.5, [](double x) { return x * std::erfc(-x * M_SQRT1_2) / 2; }},
    {ExprOp::kGeluTanh, -6, 6,
     [](double x) { return x * sigmoid(2 * std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)); }},
    {ExprOp::kSoftplus, -30, 30, [](double x) { return std::log1p(std::exp(x)); }},
    {ExprOp::kMish, -20, 30, [](double x) { return x * std::tanh(std::log1p(std::exp(x))); }},
    {ExprOp::kHardswish, -5, 5, [](double x) { return x * hard(x); }},
    {ExprOp::kHardsigmoid, -5, 5, hard},
    {ExprOp::kFloor, -5, 5, std::floor},
    {ExprOp::kCeil, -5, 5, std::ceil},
    {ExprOp::kRound, -5, 5, std::nearbyint},
    {ExprOp::kTrunc, -5, 5, std::trunc},
};

std::string name_of(ExprOp op) { return std::string(kExprOps[static_cast<std::size_t>(op)].name); }

void run_map(const Expr& expr, const std::vector<Tensor*>& inputs, Tensor& out, GpuRun&& run = {}) {
  run_gpu(gpu::make_map, OpKind::kMap, MapAttrs{expr}, inputs, {&out}, run);
}

// The same as the CPU's, to the last bit unless `tolerance` is more than 0.
void check_like_cpu(const Expr& expr, std::vector<Tensor*> inputs, DType dtype, const Shape& shape,
                    Layout layout, double tolerance = 0) {
  Tensor got(dtype, shape, layout), want(dtype, shape, layout);
  run_map(expr, inputs, got);
  run_op(cpu::make_map, OpKind::kMap, MapAttrs{expr}, inputs, {&want});
  check_tensor(got, [&](const Shape& at) { return want.get(at); }, __FILE__, __LINE__, tolerance);
}

}  // namespace

TEST(kernels_map, functions_are_exact) {
  for (const Function& f : kFunctions) {
    constexpr std::int64_t kCount = 1001;
    Tensor x(DType::kFloat32, {kCount}), y(DType::kFloat32, {kCount});
    for (std::int64_t i = 0; i < kCount; ++i) {
      x.set({i}, f.low + (f.high - f.low) * static_cast<double>(i) / (kCount - 1));
    }
    run_map({in(0), step(f.op, 'f', 0)}, {&x}, y);
    double difference = 0, exact = 0;
    for (std::int64_t i = 0; i < kCount; ++i) {
      const double want = f.exact(x.get({i}));
      difference += std::pow(y.get({i}) - want, 2);
      exact += want * want;
    }
    const double error = std::sqrt(difference / exact);
    if (!(error <= 4 * 0x1p-23)) {
      report_failure(__FILE__, __LINE__,
                     name_of(f.op) + " to " + std::to_string(f.high) + ": error " +
                         std::to_string(error / 0x1p-23) + " epsilons");
    }
  }
}

TEST(kernels_map, odd_arguments) {
  const double inf = INFINITY, nan = NAN;
  const double odd[] = {0.0, -0.0, 1, -1, 2.5, -2.5, 3, -3, inf, -inf, nan, 1e-30, -1e30, 0.5, 100, -100};
  constexpr std::int64_t kCount = std::size(odd);
  Tensor x(DType::kFloat32, {kCount, kCount}), y(DType::kFloat32, {kCount, kCount});
  for_each(x.shape, [&](const Shape& at) {
    x.set(at, odd[at[0]]);
    y.set(at, odd[at[1]]);
  });
  for (int i = static_cast<int>(ExprOp::kAdd); i < static_cast<int>(std::size(kExprOps)); ++i) {
    const auto op = static_cast<ExprOp>(i);
    const std::string_view takes = kExprOps[i].takes;
    const bool floats = takes == "n" || takes == "f" || takes == "nn" || takes == "ff";
    if (!floats) continue;
    const char gives = kExprOps[i].gives == 'b' ? 'b' : 'f';
    const Expr expr =
        takes.size() == 1 ? Expr{in(0), step(op, gives, 0)} : Expr{in(0), in(1), step(op, gives, 0, 1)};
    const DType result = gives == 'b' ? DType::kBool : DType::kFloat32;
    check_like_cpu(expr, {&x, &y}, result, x.shape, Layout::kDense, 4);
  }
}

TEST(kernels_map, powers) {
  Tensor x = random(DType::kFloat32, {40, 30}), y = random(DType::kFloat32, {40, 30}, Layout::kDense, 2);
  Tensor out(DType::kFloat32, {40, 30});
  for_each(x.shape, [&](const Shape& at) { x.set(at, std::exp2(3 * x.get(at))), y.set(at, 4 * y.get(at)); });
  run_map({in(0), in(1), step(ExprOp::kPow, 'f', 0, 1)}, {&x, &y}, out);
  for_each(x.shape, [&](const Shape& at) {
    const double want = std::pow(x.get(at), y.get(at));
    CHECK(std::fabs(out.get(at) - want) <= 3 * 0x1p-23 * want);
  });
  // From nothing to infinity.
  Tensor two(DType::kFloat32, {1601}), exponent(DType::kFloat32, {1601}), power(DType::kFloat32, {1601});
  for_each(two.shape, [&](const Shape& at) {
    two.set(at, 2), exponent.set(at, 0.5 * static_cast<double>(at[0]) - 400);
  });
  run_map({in(0), in(1), step(ExprOp::kPow, 'f', 0, 1)}, {&two, &exponent}, power);
  for_each(two.shape, [&](const Shape& at) {
    const double e = exponent.get(at);
    if (e >= 128 || e < -150) CHECK_EQ(power.get(at), e > 0 ? INFINITY : 0.0);
    if (e < 128 && e >= -126) CHECK(std::fabs(power.get(at) * std::exp2(-e) - 1) <= 3 * 0x1p-23);
  });
  Tensor far(DType::kFloat32, {200});
  for (std::int64_t i = 0; i < 200; ++i) far.set({i}, std::pow(1.9, static_cast<double>(i) - 60));
  check_like_cpu({in(0), constant(0.7), step(ExprOp::kFmod, 'f', 0, 1)}, {&far}, DType::kFloat32, {200},
                 Layout::kDense);
}

TEST(kernels_map, integers_and_bools) {
  const Shape shape = {7, 9};
  for (const DType dtype : {DType::kInt64, DType::kInt32, DType::kInt8, DType::kUInt8}) {
    Tensor a = random(dtype, shape), b = random(dtype, shape, Layout::kDense, 2);
    for_each(shape, [&](const Shape& at) {
      if (b.get(at) == 0) b.set(at, 3);
    });
    for (int i = static_cast<int>(ExprOp::kAdd); i < static_cast<int>(std::size(kExprOps)); ++i) {
      const std::string_view takes = kExprOps[i].takes;
      const auto op = static_cast<ExprOp>(i);
      const char gives = kExprOps[i].gives == 'b' ? 'b' : 'i';
      const DType result = gives == 'b' ? DType::kBool : dtype;
      if (takes == "nn" || takes == "ii") {
        check_like_cpu({in(0, 'i'), in(1, 'i'), step(op, gives, 0, 1)}, {&a, &b}, result, shape,
                       Layout::kDense);
      } else if (takes == "n" || takes == "i") {
        check_like_cpu({in(0, 'i'), step(op, gives, 0)}, {&a}, result, shape, Layout::kDense);
      }
    }
  }
  Tensor a = random(DType::kBool, shape), b = random(DType::kBool, shape, Layout::kDense, 2);
  for (const ExprOp op : {ExprOp::kLand, ExprOp::kLor, ExprOp::kLxor}) {
    check_like_cpu({in(0, 'b'), in(1, 'b'), step(op, 'b', 0, 1)}, {&a, &b}, DType::kBool, shape,
                   Layout::kDense);
  }
  check_like_cpu({in(0, 'b'), step(ExprOp::kLnot, 'b', 0)}, {&a}, DType::kBool, shape, Layout::kDense);
  Tensor x = random(DType::kFloat16, shape), y = random(DType::kFloat32, shape, Layout::kReversed, 2);
  check_like_cpu({in(0, 'b'), in(1), in(2), step(ExprOp::kWhere, 'f', 0, 1, 2)}, {&a, &x, &y},
                 DType::kBFloat16, shape, Layout::kDense);
}

TEST(kernels_map, extreme_integers) {
  const std::int64_t odd[] = {0, 1, -1, 2, -7, 63, 64, -64, INT64_MAX, INT64_MIN, INT64_MIN + 1, 1ll << 62};
  constexpr std::int64_t kCount = std::size(odd);
  Tensor a(DType::kInt64, {kCount, kCount}), b(DType::kInt64, {kCount, kCount});
  for_each(a.shape, [&](const Shape& at) {
    std::memcpy(a.data.data() + a.where(at), &odd[at[0]], 8);
    const std::int64_t divisor = odd[at[1]] == 0 ? 5 : odd[at[1]];
    std::memcpy(b.data.data() + b.where(at), &divisor, 8);
  });
  for (int i = static_cast<int>(ExprOp::kAdd); i <= static_cast<int>(ExprOp::kShr); ++i) {
    if (std::string_view(kExprOps[i].takes).find('f') != std::string_view::npos) continue;
    const Expr expr = {in(0, 'i'), in(1, 'i'), step(static_cast<ExprOp>(i), 'i', 0, 1)};
    Tensor got(DType::kInt64, a.shape), want(DType::kInt64, a.shape);
    run_map(expr, {&a, &b}, got);
    run_op(cpu::make_map, OpKind::kMap, MapAttrs{expr}, {&a, &b}, {&want});
    CHECK(got.data == want.data);
  }
}

TEST(kernels_map, division_by_zero_is_reported) {
  Tensor a = random(DType::kInt64, {50}), out(DType::kInt64, {50});
  GpuRun run;
  run_gpu(gpu::make_map, OpKind::kMap, MapAttrs{{in(0, 'i'), step(ExprOp::kIdivFloor, 'i', 0, 0)}}, {&a},
          {&out}, run);
  std::int32_t first = 0;
  std::memcpy(&first, run.status.data(), 4);
  CHECK_EQ(first, -1);
}

TEST(kernels_map, casts) {
  const double odd[] = {0,     1,       -1,     1.5,    2.5,     -2.5,          255,    256,      300,
                        -129,  65504,   65520,  70000,  1e20,    -1e20,         NAN,    INFINITY, 0.3,
                        127.9, 32767.5, -32769, 0x1p31, -0x1p31, -2147483904.0, 0x1p63, -0x1p63,  -INFINITY};
  constexpr std::int64_t kCount = std::size(odd);
  for (const DType from : kAll) {
    Tensor x(from, {kCount});
    for (std::int64_t i = 0; i < kCount; ++i)
      x.set({i}, is_float(from) || std::fabs(odd[i]) < 1e9 ? odd[i] : 7);
    const char type = is_float(from) ? 'f' : from == DType::kBool ? 'b' : 'i';
    for (const DType to : kAll) {
      check_like_cpu({in(0, type), cast_to(0, to)}, {&x}, to, {kCount}, Layout::kDense);
    }
  }
}

TEST(kernels_map, any_strides) {
  const Expr expr = {in(0), in(1), step(ExprOp::kMul, 'f', 0, 1), in(2), step(ExprOp::kAdd, 'f', 2, 3)};
  for (const Shape& shape :
       {Shape{}, {1}, {5}, {1027}, {3, 5}, {2, 3, 8}, {2, 3, 4, 5}, {2, 1, 3, 2, 3, 1, 2, 9}}) {
    for (const Layout a : kLayouts) {
      for (const Layout out : kLayouts) {
        Tensor x = random(DType::kFloat16, shape, a, 1),
               y = random(DType::kFloat32, shape, Layout::kDense, 2);
        Tensor row =
            random(DType::kBFloat16, shape.empty() ? Shape{} : Shape{shape.back()}, Layout::kDense, 3);
        Tensor z = row.expanded(shape);
        check_like_cpu(expr, {&x, &y, &z}, DType::kFloat32, shape, out);
        check_like_cpu(expr, {&x, &y, &z}, DType::kFloat16, shape, out);
      }
    }
  }
  Tensor none(DType::kFloat32, {3, 0});
  check_like_cpu({in(0), step(ExprOp::kNeg, 'f', 0)}, {&none}, DType::kFloat32, {3, 0}, Layout::kDense);
}

TEST(kernels_map, many_operands) {
  for (const int count : {28, 29, 45, 63}) {
    std::vector<Tensor> tensors;
    for (int k = 0; k < count; ++k)
      tensors.push_back(random(DType::kFloat32, {37}, Layout::kDense, static_cast<std::uint64_t>(k)));
    Expr expr = {in(0)};
    for (int k = 1; k < count; ++k) {
      expr.push_back(in(k));
      const int n = static_cast<int>(expr.size());
      expr.push_back(step(k % 2 ? ExprOp::kAdd : ExprOp::kSub, 'f', n - 2, n - 1));
    }
    std::vector<Tensor*> inputs;
    for (Tensor& t : tensors) inputs.push_back(&t);
    check_like_cpu(expr, inputs, DType::kFloat32, {37}, Layout::kDense);
  }
}
