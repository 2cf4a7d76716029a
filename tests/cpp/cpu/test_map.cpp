#include <cstdlib>

#include "cpu/expression.h"
#include "support/cpu_cases.h"

using namespace npu;
using namespace npu::test;

namespace {

void map(const Expr& expr, const std::vector<Tensor*>& inputs, Tensor& out, int threads = 1) {
  run_op(cpu::make_map, OpKind::kMap, MapAttrs{expr}, inputs, {&out}, threads);
}

Expr unary(ExprOp op) { return {in(0), step(op, 'f', 0)}; }

// Errors in units in the last place of the correctly rounded result.
double error_in_ulp(float got, double want) {
  if (std::isnan(want)) return std::isnan(got) ? 0 : 1e9;
  if (static_cast<double>(got) == want || static_cast<float>(want) == got) return 0;
  if (std::isinf(static_cast<float>(want)) || std::isinf(got)) return 1e9;
  int exponent;
  std::frexp(want, &exponent);
  return std::fabs(static_cast<double>(got) - want) / std::ldexp(1.0, std::max(exponent - 24, -149));
}

struct Function {
  const char* name;
  ExprOp op;
  double (*exact)(double);
  double low, high, ulp;
};

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double gelu(double x) { return x * 0.5 * std::erfc(-x / std::sqrt(2.0)); }
double gelu_tanh(double x) { return x * sigmoid(2 * 0.79788456080286535588 * (x + 0.044715 * x * x * x)); }
double softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::fabs(x))); }
double even(double x) { return std::nearbyint(x); }

const Function kFunctions[] = {
    {"exp", ExprOp::kExp, std::exp, -104, 89, 2},
    {"log", ExprOp::kLog, std::log, 1e-40, 1e38, 2},
    {"log", ExprOp::kLog, std::log, 0.2, 3, 2},
    {"tanh", ExprOp::kTanh, std::tanh, -12, 12, 2},
    {"tanh", ExprOp::kTanh, std::tanh, -1, 1, 2},
    {"erf", ExprOp::kErf, std::erf, -5, 5, 2},
    {"sigmoid", ExprOp::kSigmoid, sigmoid, -100, 100, 2.5},
    {"silu", ExprOp::kSilu, [](double x) { return x * sigmoid(x); }, -87, 90, 3},
    {"gelu", ExprOp::kGelu, gelu, -1, 10, 3},
    {"gelu", ExprOp::kGelu, gelu, -3, -1, 100},
    {"gelu", ExprOp::kGelu, gelu, -5, -3, 1500},  // 1e-4 of a number below 1e-5
    {"gelu_tanh", ExprOp::kGeluTanh, gelu_tanh, -1, 10, 4},
    {"gelu_tanh", ExprOp::kGeluTanh, gelu_tanh, -4, -1, 20},
    {"softplus", ExprOp::kSoftplus, softplus, -60, 60, 3},
    {"mish", ExprOp::kMish, [](double x) { return x * std::tanh(softplus(x)); }, -50, 50, 5},
    {"sin", ExprOp::kSin, std::sin, -1e5, 1e5, 2},
    {"sin", ExprOp::kSin, std::sin, -4, 4, 2},
    {"cos", ExprOp::kCos, std::cos, -1e5, 1e5, 2},
    {"cos", ExprOp::kCos, std::cos, -1e9, 1e9, 2},
    {"sqrt", ExprOp::kSqrt, std::sqrt, 0, 1e6, 1},
    {"rsqrt", ExprOp::kRsqrt, [](double x) { return 1 / std::sqrt(x); }, 1e-3, 1e6, 2},
    {"reciprocal", ExprOp::kReciprocal, [](double x) { return 1 / x; }, 1e-3, 1e6, 1},
    {"round", ExprOp::kRound, even, -9, 9, 0},
    {"round", ExprOp::kRound, even, -3e7, 3e7, 0},
    {"floor", ExprOp::kFloor, std::floor, -9, 9, 0},
    {"ceil", ExprOp::kCeil, std::ceil, -9, 9, 0},
    {"trunc", ExprOp::kTrunc, std::trunc, -9, 9, 0},
    {"expm1", ExprOp::kExpm1, std::expm1, -20, 20, 2},
    {"log1p", ExprOp::kLog1p, std::log1p, -0.9, 20, 2},
    {"log2", ExprOp::kLog2, std::log2, 0.1, 99, 2},
    {"log10", ExprOp::kLog10, std::log10, 0.1, 99, 3},
    {"exp2", ExprOp::kExp2, std::exp2, -20, 20, 2},
    {"tan", ExprOp::kTan, std::tan, -20, 20, 2},
    {"asinh", ExprOp::kAsinh, std::asinh, -20, 20, 2},
    {"atan", ExprOp::kAtan, std::atan, -20, 20, 2},
    {"erfc", ExprOp::kErfc, std::erfc, -3, 5, 4},
};

}  // namespace

TEST(cpu_map, functions_are_accurate) {
  on_every_isa([] {
    for (const Function& f : kFunctions) {
      constexpr std::int64_t n = 20011;
      Tensor x(DType::kFloat32, {n}), y(DType::kFloat32, {n});
      const bool by_ratio = f.low > 0 && f.high / f.low > 100;
      for (std::int64_t i = 0; i < n; ++i) {
        const double t = static_cast<double>(i) / (n - 1);
        x.set({i}, by_ratio ? f.low * std::pow(f.high / f.low, t) : f.low + (f.high - f.low) * t);
      }
      map(unary(f.op), {&x}, y);
      double worst = 0, at = 0;
      for (std::int64_t i = 0; i < n; ++i) {
        const double ulp = error_in_ulp(static_cast<float>(y.get({i})), f.exact(x.get({i})));
        if (ulp > worst) worst = ulp, at = x.get({i});
      }
      if (std::getenv("NPU_TEST_VERBOSE"))
        std::cout << cpu::micro().name << " " << f.name << " " << worst << " ulp at " << at << "\n";
      if (worst > f.ulp) {
        std::ostringstream text;
        text << cpu::micro().name << " " << f.name << ": " << worst << " ulp at " << at;
        report_failure(__FILE__, __LINE__, text.str());
      }
    }
  });
}

TEST(cpu_map, special_values) {
  const double inf = std::numeric_limits<double>::infinity(), nan = std::nan("");
  struct Case {
    ExprOp op;
    double x, y;
  };
  const Case special[] = {{ExprOp::kExp, -inf, 0},
                          {ExprOp::kExp, inf, inf},
                          {ExprOp::kExp, nan, nan},
                          {ExprOp::kLog, 0, -inf},
                          {ExprOp::kLog, -1, nan},
                          {ExprOp::kLog, inf, inf},
                          {ExprOp::kLog, nan, nan},
                          {ExprOp::kTanh, inf, 1},
                          {ExprOp::kTanh, -inf, -1},
                          {ExprOp::kTanh, nan, nan},
                          {ExprOp::kErf, inf, 1},
                          {ExprOp::kErf, -inf, -1},
                          {ExprOp::kErf, nan, nan},
                          {ExprOp::kSigmoid, -inf, 0},
                          {ExprOp::kSigmoid, inf, 1},
                          {ExprOp::kSigmoid, nan, nan},
                          {ExprOp::kGelu, inf, inf},
                          {ExprOp::kGelu, nan, nan},
                          {ExprOp::kGelu, -100, 0},
                          {ExprOp::kGeluTanh, 1e30, 1e30},
                          {ExprOp::kRelu, nan, nan},
                          {ExprOp::kRelu, -2, 0},
                          {ExprOp::kSin, inf, nan},
                          {ExprOp::kSin, nan, nan},
                          {ExprOp::kSin, 1e10, std::sin(1e10)},
                          {ExprOp::kSign, nan, 0},
                          {ExprOp::kSign, -3, -1},
                          {ExprOp::kSign, 0, 0},
                          {ExprOp::kRound, 2.5, 2},
                          {ExprOp::kRound, -3.5, -4},
                          {ExprOp::kRound, inf, inf},
                          {ExprOp::kFloor, nan, nan},
                          {ExprOp::kCeil, -0.3, 0},
                          {ExprOp::kTrunc, -1.7, -1},
                          {ExprOp::kSoftplus, inf, inf},
                          {ExprOp::kSoftplus, -inf, 0},
                          {ExprOp::kMish, 200, 200},
                          {ExprOp::kMish, nan, nan},
                          {ExprOp::kHardswish, nan, nan},
                          {ExprOp::kHardswish, -4, 0},
                          {ExprOp::kHardsigmoid, 9, 1},
                          {ExprOp::kSilu, nan, nan}};
  on_every_isa([&] {
    for (const Case& c : special) {
      Tensor x(DType::kFloat32, {19}), y(DType::kFloat32, {19});
      for (std::int64_t i = 0; i < 19; ++i) x.set({i}, c.x);
      map(unary(c.op), {&x}, y);
      CHECK_TENSOR(y, ([&](const Shape&) { return c.y; }));
    }
    Tensor a(DType::kFloat32, {3}), b(DType::kFloat32, {3}), y(DType::kFloat32, {3});
    const double as[] = {nan, 1, 1}, bs[] = {1, nan, 2};
    for (std::int64_t i = 0; i < 3; ++i) a.set({i}, as[i]), b.set({i}, bs[i]);
    for (const ExprOp op : {ExprOp::kMax, ExprOp::kMin}) {
      map({in(0), in(1), step(op, 'f', 0, 1)}, {&a, &b}, y);
      CHECK_TENSOR(y, ([&](const Shape& i) { return i[0] < 2 ? nan : op == ExprOp::kMax ? 2.0 : 1.0; }));
    }
  });
}

TEST(cpu_map, any_strides_and_dtypes) {
  const Shape shapes[] = {{},           {1},         {16},      {7, 3},
                          {2, 5, 3, 4}, {3, 1, 700}, {2, 0, 3}, {2, 3, 1, 2, 2, 1, 3, 2}};
  on_every_isa([&] {
    for (const DType dtype : {DType::kFloat32, DType::kFloat16, DType::kBFloat16}) {
      for (const Shape& shape : shapes) {
        for (const Layout from : kLayouts) {
          for (const Layout to : kLayouts) {
            Tensor a = random(dtype, shape, from), b = random(DType::kFloat32, shape, to, 2),
                   y(dtype, shape, to);
            map({in(0), in(1), constant(0.5), step(ExprOp::kMul, 'f', 0, 1), step(ExprOp::kAdd, 'f', 3, 2)},
                {&a, &b}, y);
            CHECK_TENSOR(y, ([&](const Shape& i) { return a.get(i) * b.get(i) + 0.5; }));
          }
        }
      }
    }
  });
}

TEST(cpu_map, broadcast) {
  on_every_isa([] {
    for (const Shape& shape : {Shape{4, 5, 24}, Shape{6, 3, 5, 2}, Shape{3, 2000}, Shape{40, 40, 30}}) {
      for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
        Tensor x = random(dtype, shape), y(dtype, shape);
        Tensor row = random(dtype, {shape.back()}, Layout::kDense, 3);
        Tensor column = random(dtype, {shape[1], 1}, Layout::kDense, 4),
               one = random(DType::kFloat32, {1}, Layout::kDense, 5);
        Tensor wide_row = row.expanded(shape), wide_column = column.expanded(shape),
               wide_one = one.expanded(shape);
        if (shape.size() == 2) column = random(dtype, {shape[0], 1}), wide_column = column.expanded(shape);
        if (shape.size() == 4) column = random(dtype, {shape[2], 1}), wide_column = column.expanded(shape);
        map({in(0), in(1), step(ExprOp::kMul, 'f', 0, 1), in(2), step(ExprOp::kAdd, 'f', 2, 3), in(3),
             step(ExprOp::kSub, 'f', 4, 5), step(ExprOp::kRelu, 'f', 6)},
            {&x, &wide_row, &wide_column, &wide_one}, y, 2);
        CHECK_TENSOR(y, ([&](const Shape& i) {
                       return std::max(0.0,
                                       x.get(i) * wide_row.get(i) + wide_column.get(i) - wide_one.get(i));
                     }));
      }
    }
  });
}

TEST(cpu_map, integers_and_bools) {
  const DType types[] = {DType::kInt8, DType::kInt16, DType::kInt32, DType::kInt64, DType::kUInt8};
  for (const DType dtype : types) {
    for (const Layout layout : {Layout::kDense, Layout::kReversed}) {
      Tensor a = random(dtype, {9, 75}, layout), b = random(dtype, {9, 75}, Layout::kDense, 2),
             y(dtype, {9, 75});
      map({in(0, 'i'), in(1, 'i'), step(ExprOp::kMul, 'i', 0, 1), constant(3, 'i'),
           step(ExprOp::kIdivFloor, 'i', 2, 3)},
          {&a, &b}, y);
      CHECK_TENSOR(
          y, ([&](const Shape& i) {
            return static_cast<double>(static_cast<std::int64_t>(std::floor(a.get(i) * b.get(i) / 3)));
          }));
      Tensor flag(DType::kBool, {9, 75}), z(DType::kFloat32, {9, 75});
      map({in(0, 'i'), in(1, 'i'), step(ExprOp::kLt, 'b', 0, 1), step(ExprOp::kLnot, 'b', 2)}, {&a, &b},
          flag);
      CHECK_TENSOR(flag, ([&](const Shape& i) { return a.get(i) >= b.get(i); }));
      map({in(0, 'b'), in(1, 'i'), cast_to(1, DType::kFloat32), constant(-1),
           step(ExprOp::kWhere, 'f', 0, 2, 3)},
          {&flag, &a}, z);
      CHECK_TENSOR(z, ([&](const Shape& i) { return flag.get(i) != 0 ? a.get(i) : -1; }));
    }
  }
}

TEST(cpu_map, integer_corners) {
  struct Case {
    ExprOp op;
    std::int64_t a, b, y;
  };
  const Case corners[] = {{ExprOp::kIdivTrunc, INT64_MIN, -1, INT64_MIN},
                          {ExprOp::kIremFloor, INT64_MIN, -1, 0},
                          {ExprOp::kIdivFloor, -7, 2, -4},
                          {ExprOp::kIdivTrunc, -7, 2, -3},
                          {ExprOp::kIremFloor, -7, 2, 1},
                          {ExprOp::kIremTrunc, -7, 2, -1},
                          {ExprOp::kShl, 1, 64, 0},
                          {ExprOp::kShl, 3, 4, 48},
                          {ExprOp::kShr, -8, 200, -1},
                          {ExprOp::kShr, -8, 1, -4},
                          {ExprOp::kIpow, 3, 4, 81},
                          {ExprOp::kIpow, -1, -3, -1},
                          {ExprOp::kIpow, 2, -1, 0},
                          {ExprOp::kAdd, INT64_MAX, 1, INT64_MIN}};
  for (const Case& c : corners) {
    Tensor a(DType::kInt64, {1}), b(DType::kInt64, {1}), y(DType::kInt64, {1});
    std::memcpy(a.data.data(), &c.a, 8);
    std::memcpy(b.data.data(), &c.b, 8);
    map({in(0, 'i'), in(1, 'i'), step(c.op, 'i', 0, 1)}, {&a, &b}, y);
    std::int64_t got;
    std::memcpy(&got, y.data.data(), 8);
    CHECK_EQ(got, c.y);
  }
  Tensor a = random(DType::kInt32, {5}), zero(DType::kInt32, {5}), y(DType::kInt32, {5});
  CHECK_THROWS(map({in(0, 'i'), in(1, 'i'), step(ExprOp::kIremFloor, 'i', 0, 1)}, {&a, &zero}, y),
               "divided by zero");
}

TEST(cpu_map, casts) {
  on_every_isa([] {
    Tensor x(DType::kFloat32, {40}), h(DType::kFloat16, {40}), b(DType::kBFloat16, {40}),
        r(DType::kFloat32, {40});
    const double values[] = {0,     -0.0,         1.0 / 3, 65504,  65519.9, 65520,    1e9,
                             -1e9,  6e-8,         2.9e-8,  3.1e-8, 6.1e-5,  1e-5,     -6.2e-5,
                             1e-41, std::nan(""), 2049.0,  2051.0, 1e38,    -INFINITY};
    for (std::int64_t i = 0; i < 40; ++i) x.set({i}, values[i % 20]);
    map({in(0)}, {&x}, h);
    map({in(0)}, {&x}, b);
    CHECK_TENSOR(h, ([&](const Shape& i) { return static_cast<float>(Half(static_cast<float>(x.get(i)))); }),
                 0);
    CHECK_TENSOR(
        b, ([&](const Shape& i) { return static_cast<float>(BFloat(static_cast<float>(x.get(i)))); }), 0);
    map({in(0), cast_to(0, DType::kFloat16)}, {&x}, r);
    CHECK_TENSOR(r, ([&](const Shape& i) { return h.get(i); }), 0);
    map({in(0)}, {&h}, r);
    CHECK_TENSOR(r, ([&](const Shape& i) { return h.get(i); }), 0);
  });
  CHECK_EQ(static_cast<float>(Half(65519.9f)), 65504.0f);
  CHECK(std::isinf(static_cast<float>(Half(65520.0f))));
  CHECK_EQ(static_cast<float>(Half(2049.0f)), 2048.0f);
  CHECK_EQ(static_cast<float>(Half(2051.0f)), 2052.0f);
  CHECK_EQ(static_cast<float>(Half(5.9604645e-8f)), 5.9604645e-8f);
}

TEST(cpu_map, floats_saturate_as_integers_and_nan_is_zero) {
  const double values[] = {0,       -0.0,       0.99,   -0.99,    127.9,         128,          -128.9,
                           -129,    255.5,      256,    -1,       32767.5,       32768,        -32769,
                           65536,   2147483520, 0x1p31, -0x1p31,  -2147483904.0, 0x1p62,       0x1p63,
                           -0x1p63, 1e30,       -1e30,  INFINITY, -INFINITY,     std::nan(""), -std::nan("")};
  const auto count = static_cast<std::int64_t>(std::size(values));
  struct Range {
    DType dtype;
    double least, most;  // which a double may round
  };
  const Range ranges[] = {{DType::kInt8, -128, 127},
                          {DType::kUInt8, 0, 255},
                          {DType::kInt16, -32768, 32767},
                          {DType::kInt32, -0x1p31, 0x1p31 - 1},
                          {DType::kInt64, -0x1p63, 0x1p63}};
  on_every_isa([&] {
    for (const DType from : {DType::kFloat32, DType::kFloat16, DType::kBFloat16}) {
      Tensor x(from, {2, count});
      for_each(x.shape, [&](const Shape& at) { x.set(at, values[at[1]]); });
      for (const Range& range : ranges) {
        Tensor y(range.dtype, x.shape);
        map({in(0), cast_to(0, range.dtype)}, {&x}, y);
        CHECK_TENSOR(y, ([&](const Shape& at) {
                       const double v = x.get(at);
                       return std::isnan(v) ? 0 : std::trunc(std::clamp(v, range.least, range.most));
                     }));
      }
    }
  });
}

TEST(cpu_map, expression_as_epilogue) {
  const Expr expr = {in(0),
                     in(1),
                     constant(2),
                     step(ExprOp::kMul, 'f', 1, 2),
                     step(ExprOp::kAdd, 'f', 0, 3),
                     step(ExprOp::kRelu, 'f', 4)};
  const cpu::Expression expression(expr, {DType::kFloat32, DType::kFloat16}, DType::kBFloat16);
  for (const std::int64_t n : {0, 1, 31, 512, 1300}) {
    Tensor sums = random(DType::kFloat32, {n}), extra = random(DType::kFloat16, {n}, Layout::kSpaced, 2),
           y(DType::kBFloat16, {n}, Layout::kSpaced);
    std::vector<std::byte> scratch(expression.scratch_bytes());
    const void* operands[] = {sums.first(), extra.first()};
    const std::int64_t strides[] = {1, 3};
    expression.run(n, operands, strides, y.first(), 3, scratch.data());
    CHECK_TENSOR(y, ([&](const Shape& i) { return std::max(0.0, sums.get(i) + 2 * extra.get(i)); }));
  }
}

TEST(cpu_map, powers) {
  Tensor x(DType::kFloat32, {30}), y(DType::kFloat32, {30});
  for (std::int64_t i = 0; i < 30; ++i) x.set({i}, 0.1 + 0.3 * static_cast<double>(i));
  for (const double p : {2.0, 3.0, 0.5, -0.5, -1.0, 1.7}) {
    map({in(0), constant(p), step(ExprOp::kPow, 'f', 0, 1), in(0), step(ExprOp::kAdd, 'f', 2, 3)}, {&x}, y);
    CHECK_TENSOR(y, ([&](const Shape& i) { return std::pow(x.get(i), p) + x.get(i); }));
  }
}

TEST(cpu_map, in_place_and_threads) {
  Tensor x = random(DType::kFloat32, {300, 1000});
  const Tensor before = x;
  map({in(0), in(0), step(ExprOp::kSqrt, 'f', 0), step(ExprOp::kMul, 'f', 0, 1), step(ExprOp::kSqrt, 'f', 3)},
      {&x}, x, 3);
  CHECK_TENSOR(x, ([&](const Shape& i) { return std::fabs(before.get(i)); }));
}

TEST(cpu_map, copies) {
  for (const DType dtype : {DType::kInt8, DType::kBFloat16, DType::kFloat32, DType::kInt64}) {
    for (const Shape& shape : {Shape{}, Shape{2, 3, 40, 50}, Shape{2, 65, 9, 7}, Shape{0, 3}, Shape{90000}}) {
      for (const Layout from : kLayouts) {
        for (const Layout to : kLayouts) {
          Tensor x = random(dtype, shape, from), y(dtype, shape, to);
          run_op(cpu::make_copy, OpKind::kCopy, CopyAttrs{}, {&x}, {&y}, 2);
          CHECK_TENSOR(y, ([&](const Shape& i) { return x.get(i); }));
        }
      }
    }
  }
}

// Constants are written once and used by every block: a register that was free before them is not theirs.
TEST(cpu_map, constants_after_other_steps) {
  Tensor x = random(DType::kFloat32, {5000}), y(DType::kFloat32, {5000});
  map({in(0), step(ExprOp::kNeg, 'f', 0), step(ExprOp::kAbs, 'f', 1), step(ExprOp::kExp, 'f', 2), constant(5),
       step(ExprOp::kMul, 'f', 3, 4), constant(7), step(ExprOp::kSub, 'f', 5, 6)},
      {&x}, y);
  CHECK_TENSOR(y, ([&](const Shape& i) { return 5 * std::exp(std::fabs(x.get(i))) - 7; }), 10);
}

// Without an operand, too, only as many elements of a constant are filled as a tile has.
TEST(cpu_map, a_step_of_constants_fills_rows_apart) {
  for (const char type : {'b', 'i'}) {
    Tensor y(type == 'b' ? DType::kBool : DType::kInt32, {3, 24});
    y.shape[1] = 16;
    const Expr expr = {constant(1, type), step(type == 'b' ? ExprOp::kLnot : ExprOp::kInot, type, 0)};
    map(expr, {}, y);
    CHECK_TENSOR(y, ([&](const Shape&) { return type == 'b' ? 0 : -2; }), 0);
  }
}

// To a fraction of what 16 bits show. Cancellation next to 1 is the functions' own.
TEST(cpu_map, functions_of_halves_are_accurate) {
  const Function functions[] = {{"sin", ExprOp::kSin, std::sin, -9000, 9000, 0},
                                {"sin", ExprOp::kSin, std::sin, -4, 4, 0},
                                {"cos", ExprOp::kCos, std::cos, -9000, 9000, 0},
                                {"log2", ExprOp::kLog2, std::log2, 1e-6, 1e6, 0},
                                {"log10", ExprOp::kLog10, std::log10, 1e-6, 1e6, 0},
                                {"log1p", ExprOp::kLog1p, std::log1p, -0.99, 90, 0},
                                {"log1p", ExprOp::kLog1p, std::log1p, -1e-3, 1e-3, 0},
                                {"expm1", ExprOp::kExpm1, std::expm1, -20, 20, 0},
                                {"expm1", ExprOp::kExpm1, std::expm1, -1e-3, 1e-3, 0},
                                {"asin", ExprOp::kAsin, std::asin, -1, 1, 0},
                                {"acos", ExprOp::kAcos, std::acos, -1, 0.999, 0},
                                {"atan", ExprOp::kAtan, std::atan, -20, 20, 0},
                                {"gelu", ExprOp::kGelu, gelu, -8, 90, 0}};
  on_every_isa([&] {
    constexpr std::int64_t n = 5003;
    std::vector<float> x(n), y(n);
    const double inf = std::numeric_limits<double>::infinity();
    const auto check = [&](const char* name, double at, double got, double want) {
      if (close(got, want, 1.3e-4, 5e-7)) return;
      std::ostringstream text;
      text << cpu::micro().name << " " << name << " of " << at << ": " << got << ", not " << want;
      report_failure(__FILE__, __LINE__, text.str());
    };
    for (const Function& f : functions) {
      for (std::int64_t i = 0; i < n; ++i)
        x[static_cast<std::size_t>(i)] =
            static_cast<float>(f.low + (f.high - f.low) * static_cast<double>(i) / (n - 1));
      cpu::micro().half_unary(cpu::micro(), f.op, x.data(), y.data(), n);
      for (std::size_t i = 0; i < x.size(); ++i)
        check(f.name, static_cast<double>(x[i]), static_cast<double>(y[i]),
              f.exact(static_cast<double>(x[i])));
      for (const double odd : {0.0, -0.0, 1.0, -1.0, 2.0, inf, -inf, std::nan("")}) {
        const float from = static_cast<float>(odd);
        float to;
        cpu::micro().half_unary(cpu::micro(), f.op, &from, &to, 1);
        const double want = f.op == ExprOp::kGelu && odd == -inf ? 0 : f.exact(odd);
        check(f.name, odd, static_cast<double>(to), want);
        CHECK(want != 0 || std::isinf(odd) || std::signbit(to) == std::signbit(want));
      }
    }
    for (const double a : {0.0, -0.0, 1.0, -1.0, 0.3, -70.0, 1e-40, 1e30, inf, -inf, std::nan("")}) {
      for (const double b : {0.0, -0.0, 1.0, -1.0, 0.2, 9.0, -1e-40, -1e30, inf, -inf, std::nan("")}) {
        const float u = static_cast<float>(a), v = static_cast<float>(b);
        float to;
        cpu::micro().half_binary(cpu::micro(), ExprOp::kAtan2, &u, &v, &to, 1);
        check("atan2", a, static_cast<double>(to),
              std::atan2(static_cast<double>(u), static_cast<double>(v)));
      }
    }
  });
}
