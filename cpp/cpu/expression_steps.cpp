// What the steps of an expression do: integers, bools and casts here, float32 in the micro kernels.
#include "cpu/element.h"
#include "cpu/expression.h"
#include "npu/error.h"

namespace npu::cpu {

namespace {

using Int = std::int64_t;
using Unsigned = std::uint64_t;

// Wraps instead of overflowing.
Int wrap(Unsigned value) { return static_cast<Int>(value); }
Unsigned raw(Int value) { return static_cast<Unsigned>(value); }

void refuse_zeros(const Int* b, Int n) {
  for (Int i = 0; i < n; ++i) {
    if (b[i] != 0) continue;
    throw Error(ErrorKind::kInvalidValue, {.area = "run",
                                           .what = "an integer was divided by zero",
                                           .got = {},
                                           .expected = "divisors other than 0",
                                           .action = {}});
  }
}

Int divide(Int a, Int b) { return b == -1 ? wrap(0 - raw(a)) : a / b; }
Int remainder(Int a, Int b) { return b == -1 ? 0 : a % b; }
Int divide_down(Int a, Int b) {
  const Int q = divide(a, b);
  return remainder(a, b) != 0 && (a < 0) != (b < 0) ? q - 1 : q;
}
Int remainder_down(Int a, Int b) {
  const Int r = remainder(a, b);
  return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

Int power(Int base, Int exponent) {
  if (exponent < 0) return base == 1 ? 1 : base == -1 ? (exponent % 2 == 0 ? 1 : -1) : 0;
  Unsigned result = 1, square = raw(base);
  for (Unsigned e = raw(exponent); e != 0; e >>= 1, square *= square) {
    if ((e & 1) != 0) result *= square;
  }
  return wrap(result);
}

template <class X, class Y, class F>
void each(const X* a, Y* y, Int n, F f) {
  for (Int i = 0; i < n; ++i) y[i] = f(a[i]);
}
template <class X, class Y, class F>
void each(const X* a, const X* b, Y* y, Int n, F f) {
  for (Int i = 0; i < n; ++i) y[i] = f(a[i], b[i]);
}

void divisions(ExprOp op, const Int* a, const Int* b, Int* y, Int n) {
  refuse_zeros(b, n);
  switch (op) {
    case ExprOp::kIdivFloor:
      return each(a, b, y, n, divide_down);
    case ExprOp::kIdivTrunc:
      return each(a, b, y, n, divide);
    case ExprOp::kIremFloor:
      return each(a, b, y, n, remainder_down);
    default:
      return each(a, b, y, n, remainder);
  }
}

void integers(ExprOp op, const Int* a, const Int* b, Int* y, Int n) {
  switch (op) {
    case ExprOp::kAdd:
      return each(a, b, y, n, [](Int u, Int v) { return wrap(raw(u) + raw(v)); });
    case ExprOp::kSub:
      return each(a, b, y, n, [](Int u, Int v) { return wrap(raw(u) - raw(v)); });
    case ExprOp::kMul:
      return each(a, b, y, n, [](Int u, Int v) { return wrap(raw(u) * raw(v)); });
    case ExprOp::kMax:
      return each(a, b, y, n, [](Int u, Int v) { return u > v ? u : v; });
    case ExprOp::kMin:
      return each(a, b, y, n, [](Int u, Int v) { return u < v ? u : v; });
    case ExprOp::kIpow:
      return each(a, b, y, n, power);
    case ExprOp::kAnd:
      return each(a, b, y, n, [](Int u, Int v) { return u & v; });
    case ExprOp::kOr:
      return each(a, b, y, n, [](Int u, Int v) { return u | v; });
    case ExprOp::kXor:
      return each(a, b, y, n, [](Int u, Int v) { return u ^ v; });
    case ExprOp::kShl:
      return each(a, b, y, n, [](Int u, Int v) { return v < 0 || v > 63 ? 0 : wrap(raw(u) << v); });
    case ExprOp::kShr:
      return each(a, b, y, n, [](Int u, Int v) { return u >> (v < 0 || v > 63 ? 63 : v); });
    case ExprOp::kInot:
      return each(a, y, n, [](Int u) { return ~u; });
    case ExprOp::kNeg:
      return each(a, y, n, [](Int u) { return wrap(0 - raw(u)); });
    case ExprOp::kAbs:
      return each(a, y, n, [](Int u) { return u < 0 ? wrap(0 - raw(u)) : u; });
    case ExprOp::kSign:
      return each(a, y, n, [](Int u) { return Int{u > 0} - Int{u < 0}; });
    case ExprOp::kRelu:
      return each(a, y, n, [](Int u) { return u > 0 ? u : 0; });
    default:
      return divisions(op, a, b, y, n);
  }
}

void compare_integers(ExprOp op, const Int* a, const Int* b, std::uint8_t* y, Int n) {
  switch (op) {
    case ExprOp::kEq:
      return each(a, b, y, n, [](Int u, Int v) { return u == v; });
    case ExprOp::kNe:
      return each(a, b, y, n, [](Int u, Int v) { return u != v; });
    case ExprOp::kLt:
      return each(a, b, y, n, [](Int u, Int v) { return u < v; });
    case ExprOp::kLe:
      return each(a, b, y, n, [](Int u, Int v) { return u <= v; });
    case ExprOp::kGt:
      return each(a, b, y, n, [](Int u, Int v) { return u > v; });
    default:
      return each(a, b, y, n, [](Int u, Int v) { return u >= v; });
  }
}

void bools(ExprOp op, const std::uint8_t* a, const std::uint8_t* b, std::uint8_t* y, Int n) {
  using U = std::uint8_t;
  switch (op) {
    case ExprOp::kLand:
      return each(a, b, y, n, [](U u, U v) { return (u != 0) & (v != 0); });
    case ExprOp::kLor:
      return each(a, b, y, n, [](U u, U v) { return (u != 0) | (v != 0); });
    case ExprOp::kLxor:
      return each(a, b, y, n, [](U u, U v) { return (u != 0) ^ (v != 0); });
    default:
      return each(a, y, n, [](U u) { return u == 0; });
  }
}

void classify(ExprOp op, const float* a, std::uint8_t* y, Int n) {
  if (op == ExprOp::kIsnan) return each(a, y, n, [](float u) { return u != u; });
  each(a, y, n, [](float u) { return u == __builtin_inff() || u == -__builtin_inff(); });
}

void round_to(const Micro& micro, DType dtype, const float* x, float* y, Int n) {
  std::uint16_t narrow[kExprBlock];
  if (dtype == DType::kFloat16) {
    micro.store_f16(x, narrow, n);
    micro.load_f16(narrow, y, n);
  } else {
    micro.store_bf16(x, narrow, n);
    micro.load_bf16(narrow, y, n);
  }
}

template <class X>
void cast(const Micro& micro, DType dtype, const X* x, std::byte* to, Int n) {
  visit_dtype(dtype, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (kIsFloat<T>) {
      auto* y = reinterpret_cast<float*>(to);
      each(x, y, n, [](X u) { return static_cast<float>(u); });
      if constexpr (!std::is_same_v<T, float>) round_to(micro, dtype, y, y, n);
    } else if constexpr (std::is_same_v<T, bool>) {
      each(x, reinterpret_cast<std::uint8_t*>(to), n, [](X u) { return u != 0; });
    } else {
      each(x, reinterpret_cast<Int*>(to), n, [](X u) {
        if constexpr (std::is_same_v<X, float>) return static_cast<Int>(to_integer<T>(u));
        return static_cast<Int>(static_cast<T>(u));
      });
    }
  });
}

template <class X>
void choose(const std::uint8_t* c, const std::byte* a, const std::byte* b, std::byte* y, Int n) {
  const auto *u = reinterpret_cast<const X*>(a), *v = reinterpret_cast<const X*>(b);
  for (Int i = 0; i < n; ++i) reinterpret_cast<X*>(y)[i] = c[i] != 0 ? u[i] : v[i];
}

void run_float_step(const Micro& micro, const Expression::Step& step, const float* a, const float* b,
                    std::byte* y, Int n) {
  if (step.gives == 'f') {
    auto* out = reinterpret_cast<float*>(y);
    const bool two = kExprOps[static_cast<int>(step.op)].takes.size() == 2;
    return two ? micro.binary(step.op, a, b, out, n) : micro.unary(step.op, a, out, n);
  }
  auto* out = reinterpret_cast<std::uint8_t*>(y);
  if (step.op == ExprOp::kIsnan || step.op == ExprOp::kIsinf) return classify(step.op, a, out, n);
  micro.compare(step.op, a, b, out, n);
}

}  // namespace

void run_step(const Micro& micro, const Expression::Step& step, const std::byte* a, const std::byte* b,
              const std::byte* c, std::byte* y, std::int64_t n) {
  const auto *af = reinterpret_cast<const float*>(a), *bf = reinterpret_cast<const float*>(b);
  const auto *ai = reinterpret_cast<const Int*>(a), *bi = reinterpret_cast<const Int*>(b);
  const auto *ab = reinterpret_cast<const std::uint8_t*>(a), *bb = reinterpret_cast<const std::uint8_t*>(b);
  if (step.op == ExprOp::kWhere) {
    if (step.gives == 'f')
      return micro.where(ab, bf, reinterpret_cast<const float*>(c), reinterpret_cast<float*>(y), n);
    return step.gives == 'i' ? choose<Int>(ab, b, c, y, n) : choose<std::uint8_t>(ab, b, c, y, n);
  }
  if (step.op == ExprOp::kCast) {
    if (step.takes == 'f') return cast(micro, step.dtype, af, y, n);
    return step.takes == 'i' ? cast(micro, step.dtype, ai, y, n) : cast(micro, step.dtype, ab, y, n);
  }
  if (step.takes == 'f') return run_float_step(micro, step, af, bf, y, n);
  if (step.takes == 'b') return bools(step.op, ab, bb, reinterpret_cast<std::uint8_t*>(y), n);
  if (step.gives == 'b') return compare_integers(step.op, ai, bi, reinterpret_cast<std::uint8_t*>(y), n);
  integers(step.op, ai, bi, reinterpret_cast<Int*>(y), n);
}

}  // namespace npu::cpu
