// Steps of expressions over integers and bools, and between classes of registers: plain loops that compilers
// turn into vector instructions.
#include <type_traits>

#include "cpu/micro/table.h"
#include "cpu/micro/vec.h"

namespace npu::cpu::NPU_ISA {

namespace {

using Int = std::int64_t;
using Unsigned = std::uint64_t;
using Bool = std::uint8_t;

template <class X, class Y, class F>
inline void each_of(const X* a, Y* y, Int n, F f) {
  for (Int i = 0; i < n; ++i) y[i] = static_cast<Y>(f(a[i]));
}
template <class X, class Y, class F>
inline void each_of(const X* a, const X* b, Y* y, Int n, F f) {
  for (Int i = 0; i < n; ++i) y[i] = static_cast<Y>(f(a[i], b[i]));
}

// What T wraps in: of narrow ones, products would overflow an int.
template <class T>
using Word = std::conditional_t<sizeof(T) < 4, std::uint32_t, std::make_unsigned_t<T>>;
template <class T>
constexpr int kBits = 8 * sizeof(T);

template <class T>
inline T wrap(Word<T> value) {
  return static_cast<T>(value);
}
template <class T>
inline Word<T> raw(T value) {
  return static_cast<Word<T>>(value);
}
template <class T>
inline T negative(T value) {
  return wrap<T>(0 - raw(value));
}

// What the quotient of two numbers is computed in, so that it is on the same side of every integer as the
// exact one: of int64 below 2^50.
template <class T>
using Ratio = std::conditional_t<sizeof(T) < 4, float, double>;
template <class T>
using Whole = std::conditional_t<sizeof(T) < 4, std::int32_t, T>;

template <class T>
inline bool fit_ratio(const T* a, const T* b, Int n) {
  if constexpr (sizeof(T) < 8) {
    return true;
  } else {
    Unsigned all = 0;
    for (Int i = 0; i < n; ++i) all |= raw<T>(a[i] < 0 ? ~a[i] : a[i]) | raw<T>(b[i] < 0 ? ~b[i] : b[i]);
    return all < Unsigned{1} << 50;
  }
}
template <class T>
inline T quotient(T a, T b) {
  if constexpr (sizeof(T) == 4) {  // the least number by -1 is none of T
    const T q = static_cast<T>(static_cast<double>(a) / static_cast<double>(b == -1 ? 1 : b));
    return b == -1 ? negative(q) : q;
  } else {
    return static_cast<T>(static_cast<Whole<T>>(static_cast<Ratio<T>>(a) / static_cast<Ratio<T>>(b)));
  }
}
template <class T>
inline T divide(T a, T b) {
  return b == static_cast<T>(-1) && b < 0 ? negative(a) : static_cast<T>(a / b);
}

// finish(a, b, quotient towards zero)
template <class T, class F>
inline void divided(const T* a, const T* b, T* y, Int n, F finish) {
  if (fit_ratio(a, b, n)) return each_of(a, b, y, n, [=](T u, T v) { return finish(u, v, quotient(u, v)); });
  each_of(a, b, y, n, [=](T u, T v) { return finish(u, v, divide(u, v)); });
}
template <class T>
inline T rest(T a, T b, T q) {
  return wrap<T>(raw(a) - raw(q) * raw(b));
}

template <class T>
void divisions(ExprOp op, const T* a, const T* b, T* y, Int n) {
  switch (op) {
    case ExprOp::kIdivFloor:
      return divided(a, b, y, n, [](T u, T v, T q) {
        return static_cast<T>(q - ((rest(u, v, q) != 0) & ((u < 0) != (v < 0))));
      });
    case ExprOp::kIdivTrunc:
      return divided(a, b, y, n, [](T, T, T q) { return q; });
    case ExprOp::kIremFloor:
      return divided(a, b, y, n, [](T u, T v, T q) {
        const T r = rest(u, v, q);
        return static_cast<T>(((r != 0) & ((r < 0) != (v < 0))) ? r + v : r);
      });
    default:
      return divided(a, b, y, n, [](T u, T v, T q) { return rest(u, v, q); });
  }
}

template <class T>
inline T power(T base, T exponent) {
  if (exponent < 0)
    return static_cast<T>(base == 1 ? 1 : base == static_cast<T>(-1) ? (exponent % 2 == 0 ? 1 : -1) : 0);
  Word<T> result = 1, square = raw(base);
  for (Word<T> e = raw(exponent); e != 0; e >>= 1, square *= square) {
    if ((e & 1) != 0) result *= square;
  }
  return wrap<T>(result);
}

template <class T>
void compute(ExprOp op, const void* left, const void* right, void* to, Int n) {
  const auto *a = static_cast<const T*>(left), *b = static_cast<const T*>(right);
  auto* const y = static_cast<T*>(to);
  switch (op) {
    case ExprOp::kAdd:
      return each_of(a, b, y, n, [](T u, T v) { return wrap<T>(raw(u) + raw(v)); });
    case ExprOp::kSub:
      return each_of(a, b, y, n, [](T u, T v) { return wrap<T>(raw(u) - raw(v)); });
    case ExprOp::kMul:
      return each_of(a, b, y, n, [](T u, T v) { return wrap<T>(raw(u) * raw(v)); });
    case ExprOp::kMax:
      return each_of(a, b, y, n, [](T u, T v) { return u > v ? u : v; });
    case ExprOp::kMin:
      return each_of(a, b, y, n, [](T u, T v) { return u < v ? u : v; });
    case ExprOp::kIpow:
      return each_of(a, b, y, n, [](T u, T v) { return power(u, v); });
    case ExprOp::kAnd:
      return each_of(a, b, y, n, [](T u, T v) { return u & v; });
    case ExprOp::kOr:
      return each_of(a, b, y, n, [](T u, T v) { return u | v; });
    case ExprOp::kXor:
      return each_of(a, b, y, n, [](T u, T v) { return u ^ v; });
    case ExprOp::kShl:
      return each_of(a, b, y, n, [](T u, T v) {
        const bool all_out = raw(v) >= Word<T>{kBits<T>};
        return all_out ? T{} : wrap<T>(raw(u) << (raw(v) & Word<T>{kBits<T> - 1}));
      });
    case ExprOp::kShr:
      return each_of(a, b, y, n, [](T u, T v) {
        const bool all_out = raw(v) >= Word<T>{kBits<T>};
        return all_out ? static_cast<T>(u < 0 ? -1 : 0)
                       : static_cast<T>(u >> (raw(v) & Word<T>{kBits<T> - 1}));
      });
    case ExprOp::kInot:
      return each_of(a, y, n, [](T u) { return ~u; });
    case ExprOp::kNeg:
      return each_of(a, y, n, [](T u) { return negative(u); });
    case ExprOp::kAbs:
      return each_of(a, y, n, [](T u) { return u < 0 ? negative(u) : u; });
    case ExprOp::kSign:
      return each_of(a, y, n, [](T u) { return int{u > 0} - int{u < 0}; });
    case ExprOp::kRelu:
      return each_of(a, y, n, [](T u) { return u > 0 ? u : T{}; });
    default:
      return divisions(op, a, b, y, n);
  }
}

template <class T>
void compare(ExprOp op, const void* left, const void* right, Bool* y, Int n) {
  const auto *a = static_cast<const T*>(left), *b = static_cast<const T*>(right);
  switch (op) {
    case ExprOp::kEq:
      return each_of(a, b, y, n, [](T u, T v) { return u == v; });
    case ExprOp::kNe:
      return each_of(a, b, y, n, [](T u, T v) { return u != v; });
    case ExprOp::kLt:
      return each_of(a, b, y, n, [](T u, T v) { return u < v; });
    case ExprOp::kLe:
      return each_of(a, b, y, n, [](T u, T v) { return u <= v; });
    case ExprOp::kGt:
      return each_of(a, b, y, n, [](T u, T v) { return u > v; });
    default:
      return each_of(a, b, y, n, [](T u, T v) { return u >= v; });
  }
}

template <class T>
bool any_zero(const void* x, Int n) {
  const auto* const from = static_cast<const T*>(x);
  T zeros = 0;
  for (Int i = 0; i < n; ++i) zeros |= static_cast<T>(from[i] == 0);
  return zeros != 0;
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
void choose(const Bool* c, const void* a, const void* b, void* y, Int n) {
  const auto *u = static_cast<const X*>(a), *v = static_cast<const X*>(b);
  auto* const to = static_cast<X*>(y);
  for (Int i = 0; i < n; ++i) to[i] = c[i] != 0 ? u[i] : v[i];
}
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

// In registers of Y, which has all values of T.
template <class T, class Y>
inline void to_integers(const float* x, Y* y, Int n) {
  if constexpr (sizeof(T) == sizeof(Int)) {
    each_of(x, y, n, [](float u) { return whole(u); });
  } else {
    std::int32_t part[kLanes];
    for (Int i = 0; i < n; i += kLanes) {
      const Int m = n - i < kLanes ? n - i : kLanes;
      const I32 v = narrow<T>(m == kLanes ? load(x + i) : load_part(x + i, m));
      if (sizeof(Y) == sizeof(std::int32_t) && m == kLanes) {
        __builtin_memcpy(y + i, &v, sizeof v);
        continue;
      }
      __builtin_memcpy(part, &v, sizeof part);
      for (Int j = 0; j < m; ++j) y[i + j] = static_cast<Y>(part[j]);
    }
  }
}
template <class T, class Y, class X>
inline void to_integers(const X* x, Y* y, Int n) {
  each_of(x, y, n, [](X u) { return static_cast<T>(u); });
}

// Integers have registers of R: of int64 for all of them, or of their own.
template <class R, class X>
void cast(DType dtype, const void* from, void* to, Int n) {
  const auto* const x = static_cast<const X*>(from);
  auto* const y = static_cast<R*>(to);
  if (dtype == DType::kBool) return each_of(x, static_cast<Bool*>(to), n, [](X u) { return u != X{}; });
  if (is_float(dtype))
    return each_of(x, static_cast<float*>(to), n, [](X u) { return static_cast<float>(u); });
  if constexpr (sizeof(R) < sizeof(Int)) {
    to_integers<R>(x, y, n);
  } else {
    switch (dtype) {
      case DType::kInt8:
        return to_integers<std::int8_t>(x, y, n);
      case DType::kInt16:
        return to_integers<std::int16_t>(x, y, n);
      case DType::kInt32:
        return to_integers<std::int32_t>(x, y, n);
      case DType::kUInt8:
        return to_integers<std::uint8_t>(x, y, n);
      default:
        return to_integers<std::int64_t>(x, y, n);
    }
  }
}

template <class T>
constexpr IntegerSteps kSteps = {compute<T>,     compare<T>,    choose<T>, any_zero<T>,
                                 cast<T, float>, cast<T, Bool>, cast<T, T>};

}  // namespace

void fill_steps(Micro& micro) {
  micro.int8s = kSteps<std::int8_t>;
  micro.int16s = kSteps<std::int16_t>;
  micro.int32s = kSteps<std::int32_t>;
  micro.int64s = kSteps<std::int64_t>;
  micro.uint8s = kSteps<std::uint8_t>;
  micro.bools = bools;
  micro.choose_bools = choose_bools;
}

}  // namespace npu::cpu::NPU_ISA
