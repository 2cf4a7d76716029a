// Steps of expressions over integers and bools, and between classes of registers: plain loops that compilers
// turn into vector instructions.
#include "cpu/micro/table.h"
#include "cpu/micro/vec.h"

namespace npu::cpu::NPU_ISA {

namespace {

using Int = std::int64_t;
using Unsigned = std::uint64_t;
using Bool = std::uint8_t;

// Wraps instead of overflowing.
inline Int wrap(Unsigned value) { return static_cast<Int>(value); }
inline Unsigned raw(Int value) { return static_cast<Unsigned>(value); }

template <class X, class Y, class F>
inline void each_of(const X* a, Y* y, Int n, F f) {
  for (Int i = 0; i < n; ++i) y[i] = static_cast<Y>(f(a[i]));
}
template <class X, class Y, class F>
inline void each_of(const X* a, const X* b, Y* y, Int n, F f) {
  for (Int i = 0; i < n; ++i) y[i] = static_cast<Y>(f(a[i], b[i]));
}

inline Int divide(Int a, Int b) { return b == -1 ? wrap(0 - raw(a)) : a / b; }

// Below 2^50 the quotient of two doubles is on the same side of every integer as that of the numbers.
inline bool fit_double(const Int* a, const Int* b, Int n) {
  Unsigned all = 0;
  for (Int i = 0; i < n; ++i) all |= raw(a[i] < 0 ? ~a[i] : a[i]) | raw(b[i] < 0 ? ~b[i] : b[i]);
  return all < Unsigned{1} << 50;
}
inline Int quotient(Int a, Int b) {
  return static_cast<Int>(static_cast<double>(a) / static_cast<double>(b));
}

// finish(a, b, quotient towards zero)
template <class F>
inline void divided(const Int* a, const Int* b, Int* y, Int n, F finish) {
  if (fit_double(a, b, n))
    return each_of(a, b, y, n, [=](Int u, Int v) { return finish(u, v, quotient(u, v)); });
  each_of(a, b, y, n, [=](Int u, Int v) { return finish(u, v, divide(u, v)); });
}
inline Int rest(Int a, Int b, Int q) { return wrap(raw(a) - raw(q) * raw(b)); }

void divisions(ExprOp op, const Int* a, const Int* b, Int* y, Int n) {
  switch (op) {
    case ExprOp::kIdivFloor:
      return divided(a, b, y, n,
                     [](Int u, Int v, Int q) { return q - ((rest(u, v, q) != 0) & ((u < 0) != (v < 0))); });
    case ExprOp::kIdivTrunc:
      return divided(a, b, y, n, [](Int, Int, Int q) { return q; });
    case ExprOp::kIremFloor:
      return divided(a, b, y, n, [](Int u, Int v, Int q) {
        const Int r = rest(u, v, q);
        return ((r != 0) & ((r < 0) != (v < 0))) ? r + v : r;
      });
    default:
      return divided(a, b, y, n, [](Int u, Int v, Int q) { return rest(u, v, q); });
  }
}

inline Int power(Int base, Int exponent) {
  if (exponent < 0) return base == 1 ? 1 : base == -1 ? (exponent % 2 == 0 ? 1 : -1) : 0;
  Unsigned result = 1, square = raw(base);
  for (Unsigned e = raw(exponent); e != 0; e >>= 1, square *= square) {
    if ((e & 1) != 0) result *= square;
  }
  return wrap(result);
}

void integers(ExprOp op, const Int* a, const Int* b, Int* y, Int n) {
  switch (op) {
    case ExprOp::kAdd:
      return each_of(a, b, y, n, [](Int u, Int v) { return wrap(raw(u) + raw(v)); });
    case ExprOp::kSub:
      return each_of(a, b, y, n, [](Int u, Int v) { return wrap(raw(u) - raw(v)); });
    case ExprOp::kMul:
      return each_of(a, b, y, n, [](Int u, Int v) { return wrap(raw(u) * raw(v)); });
    case ExprOp::kMax:
      return each_of(a, b, y, n, [](Int u, Int v) { return u > v ? u : v; });
    case ExprOp::kMin:
      return each_of(a, b, y, n, [](Int u, Int v) { return u < v ? u : v; });
    case ExprOp::kIpow:
      return each_of(a, b, y, n, [](Int u, Int v) { return power(u, v); });
    case ExprOp::kAnd:
      return each_of(a, b, y, n, [](Int u, Int v) { return u & v; });
    case ExprOp::kOr:
      return each_of(a, b, y, n, [](Int u, Int v) { return u | v; });
    case ExprOp::kXor:
      return each_of(a, b, y, n, [](Int u, Int v) { return u ^ v; });
    case ExprOp::kShl:
      return each_of(a, b, y, n,
                     [](Int u, Int v) { return raw(v) > 63 ? 0 : wrap(raw(u) << (raw(v) & 63)); });
    case ExprOp::kShr:
      return each_of(a, b, y, n, [](Int u, Int v) { return u >> (raw(v) > 63 ? 63 : v); });
    case ExprOp::kInot:
      return each_of(a, y, n, [](Int u) { return ~u; });
    case ExprOp::kNeg:
      return each_of(a, y, n, [](Int u) { return wrap(0 - raw(u)); });
    case ExprOp::kAbs:
      return each_of(a, y, n, [](Int u) { return u < 0 ? wrap(0 - raw(u)) : u; });
    case ExprOp::kSign:
      return each_of(a, y, n, [](Int u) { return Int{u > 0} - Int{u < 0}; });
    case ExprOp::kRelu:
      return each_of(a, y, n, [](Int u) { return u > 0 ? u : 0; });
    default:
      return divisions(op, a, b, y, n);
  }
}

void compare_integers(ExprOp op, const Int* a, const Int* b, Bool* y, Int n) {
  switch (op) {
    case ExprOp::kEq:
      return each_of(a, b, y, n, [](Int u, Int v) { return u == v; });
    case ExprOp::kNe:
      return each_of(a, b, y, n, [](Int u, Int v) { return u != v; });
    case ExprOp::kLt:
      return each_of(a, b, y, n, [](Int u, Int v) { return u < v; });
    case ExprOp::kLe:
      return each_of(a, b, y, n, [](Int u, Int v) { return u <= v; });
    case ExprOp::kGt:
      return each_of(a, b, y, n, [](Int u, Int v) { return u > v; });
    default:
      return each_of(a, b, y, n, [](Int u, Int v) { return u >= v; });
  }
}

void bools(ExprOp op, const Bool* a, const Bool* b, Bool* y, Int n) {
  switch (op) {
    case ExprOp::kLand:
      return each_of(a, b, y, n, [](Bool u, Bool v) { return (u != 0) & (v != 0); });
    case ExprOp::kLor:
      return each_of(a, b, y, n, [](Bool u, Bool v) { return (u != 0) | (v != 0); });
    case ExprOp::kLxor:
      return each_of(a, b, y, n, [](Bool u, Bool v) { return (u != 0) ^ (v != 0); });
    default:
      return each_of(a, y, n, [](Bool u) { return u == 0; });
  }
}

template <class X>
inline void choose(const Bool* c, const void* a, const void* b, void* y, Int n) {
  const auto *u = static_cast<const X*>(a), *v = static_cast<const X*>(b);
  auto* const to = static_cast<X*>(y);
  for (Int i = 0; i < n; ++i) to[i] = c[i] != 0 ? u[i] : v[i];
}
void choose_integers(const Bool* c, const Int* a, const Int* b, Int* y, Int n) { choose<Int>(c, a, b, y, n); }
void choose_bools(const Bool* c, const Bool* a, const Bool* b, Bool* y, Int n) {
  choose<Bool>(c, a, b, y, n);
}

// Without the fraction, or the nearest that an int64 has; NaN gives 0. As to_integer in
// core/base/to_integer.h.
inline Int whole(float value) {
  if (!(value > -0x1p63f)) return value != value ? 0 : -0x7fffffffffffffff - 1;
  return value >= 0x1p63f ? 0x7fffffffffffffff : static_cast<Int>(value);
}

// The same for a narrower T, whose ends a float32 has but for the greatest of 32 bits.
template <class T>
inline I32 narrow(F32 x) {
  constexpr bool is_signed = T(-1) < T(0);
  constexpr std::int32_t most = static_cast<std::int32_t>((Int{1} << (8 * sizeof(T) - is_signed)) - 1);
  constexpr float top = sizeof(T) == 4 ? 2147483520.0f : static_cast<float>(most);
  constexpr float least = is_signed ? -static_cast<float>(Int{1} << (8 * sizeof(T) - 1)) : 0.0f;
  const F32 number = x == x ? x : all(0.0f), low = number < least ? all(least) : number;
  const I32 r = __builtin_convertvector(low > top ? all(top) : low, I32);
  return x > top ? I32{} + most : r;
}

template <class T>
inline void to_integers(const float* x, Int* y, Int n) {
  if constexpr (sizeof(T) == sizeof(Int)) {
    each_of(x, y, n, [](float u) { return whole(u); });
  } else {
    std::int32_t part[kLanes];
    for (Int i = 0; i < n; i += kLanes) {
      const Int m = n - i < kLanes ? n - i : kLanes;
      const I32 v = narrow<T>(m == kLanes ? load(x + i) : load_part(x + i, m));
      __builtin_memcpy(part, &v, sizeof part);
      for (Int j = 0; j < m; ++j) y[i + j] = part[j];
    }
  }
}
template <class T, class X>
inline void to_integers(const X* x, Int* y, Int n) {
  each_of(x, y, n, [](X u) -> Int { return static_cast<T>(u); });
}

template <class X>
inline void cast(DType dtype, const X* x, void* to, Int n) {
  auto* const y = static_cast<Int*>(to);
  switch (dtype) {
    case DType::kInt8:
      return to_integers<std::int8_t>(x, y, n);
    case DType::kInt16:
      return to_integers<std::int16_t>(x, y, n);
    case DType::kInt32:
      return to_integers<std::int32_t>(x, y, n);
    case DType::kInt64:
      return to_integers<std::int64_t>(x, y, n);
    case DType::kUInt8:
      return to_integers<std::uint8_t>(x, y, n);
    case DType::kBool:
      return each_of(x, static_cast<Bool*>(to), n, [](X u) { return u != X{}; });
    default:
      return each_of(x, static_cast<float*>(to), n, [](X u) { return static_cast<float>(u); });
  }
}
void cast_floats(DType dtype, const float* x, void* y, Int n) { cast(dtype, x, y, n); }
void cast_integers(DType dtype, const Int* x, void* y, Int n) { cast(dtype, x, y, n); }
void cast_bools(DType dtype, const Bool* x, void* y, Int n) { cast(dtype, x, y, n); }

}  // namespace

void fill_steps(Micro& micro) {
  micro.integers = integers;
  micro.compare_integers = compare_integers;
  micro.bools = bools;
  micro.choose_integers = choose_integers;
  micro.choose_bools = choose_bools;
  micro.cast_floats = cast_floats;
  micro.cast_integers = cast_integers;
  micro.cast_bools = cast_bools;
}

}  // namespace npu::cpu::NPU_ISA
