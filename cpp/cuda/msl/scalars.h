// Numbers: names of MSL's types, half and bfloat. Both are stored in 16 bits; every operation on them is
// computed in float and rounded once, which is exact for + - * /.
#pragma once

#define NPU_MSL __forceinline__ __device__

namespace metal {

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
typedef signed char int8_t;
typedef short int16_t;
typedef int int32_t;
typedef long int64_t;
typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef unsigned int uint32_t;
typedef unsigned long uint64_t;
typedef unsigned long size_t;

#undef INFINITY
#undef NAN
#define INFINITY (__builtin_bit_cast(float, 0x7f800000))
#define NAN (__builtin_bit_cast(float, 0x7fc00000))
#define HUGE_VALF INFINITY
#define M_PI_F 3.14159265358979323846f
#define FLT_MAX 3.402823466e+38f
#define FLT_MIN 1.175494351e-38f
#define FLT_EPSILON 1.1920928955078125e-7f

struct half;
struct bfloat;

template <class A, class B>
inline constexpr bool is_same_v = false;
template <class A>
inline constexpr bool is_same_v<A, A> = true;
template <class T>
inline constexpr bool is_integer_v =
    is_same_v<T, bool> || is_same_v<T, char> || is_same_v<T, signed char> || is_same_v<T, uchar> ||
    is_same_v<T, short> || is_same_v<T, ushort> || is_same_v<T, int> || is_same_v<T, uint> ||
    is_same_v<T, long> || is_same_v<T, ulong> || is_same_v<T, long long> || is_same_v<T, unsigned long long>;
template <class T>
inline constexpr bool is_half_v = is_same_v<T, half> || is_same_v<T, bfloat>;  // of 16 bits
template <class T>
inline constexpr bool is_scalar_v = is_integer_v<T> || is_half_v<T> || is_same_v<T, float>;

// A float that rounds to 16 bits as the integer does: odd where it is not exact.
template <class I>
NPU_MSL float odd_float(I v) {
  if constexpr (sizeof(I) < 4) {
    return float(v);
  } else {
    float f;
    if constexpr (I(-1) < I(0)) {
      f = __ll2float_rz(v);
      if ((long long)f == (long long)v) return f;
    } else {
      f = __ull2float_rz(v);
      if ((unsigned long long)f == (unsigned long long)v) return f;
    }
    return __uint_as_float(__float_as_uint(f) | 1);
  }
}

template <class S>
NPU_MSL float widened(S v) {
  if constexpr (is_integer_v<S>) {
    return odd_float(v);
  } else {
    return float(v);
  }
}

struct half {
  ushort bits;
  half() = default;
  template <class S>
    requires(is_scalar_v<S>)
  NPU_MSL half(S v) {
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(widened(v)));
  }
  NPU_MSL operator float() const {
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(bits));
    return f;
  }
};

// Only explicit: MSL converts nothing to bfloat by itself.
struct bfloat {
  ushort bits;
  bfloat() = default;
  template <class S>
    requires(is_scalar_v<S>)
  explicit NPU_MSL bfloat(S v) {
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(widened(v)));
  }
  NPU_MSL operator float() const { return __uint_as_float(uint(bits) << 16); }
};

// Of two of one type, or of one and an integer, the result is of that type; with a float it is a float.
#define NPU_MSL_HALF_OPERATOR(op)                              \
  template <class H>                                           \
    requires(is_half_v<H>)                                     \
  NPU_MSL H operator op(H a, H b) {                            \
    return H(float(a) op float(b));                            \
  }                                                            \
  template <class H, class I>                                  \
    requires(is_half_v<H> && is_integer_v<I>)                  \
  NPU_MSL H operator op(H a, I b) {                            \
    return a op H(b);                                          \
  }                                                            \
  template <class H, class I>                                  \
    requires(is_half_v<H> && is_integer_v<I>)                  \
  NPU_MSL H operator op(I a, H b) {                            \
    return H(a) op b;                                          \
  }                                                            \
  template <class A, class B>                                  \
    requires(is_half_v<A> && is_half_v<B> && !is_same_v<A, B>) \
  void operator op(A, B) = delete;                             \
  template <class H, class S>                                  \
    requires(is_half_v<H> && is_scalar_v<S>)                   \
  NPU_MSL H& operator op## = (H & a, S b) {                    \
    return a = H(a op b);                                      \
  }
NPU_MSL_HALF_OPERATOR(+)
NPU_MSL_HALF_OPERATOR(-)
NPU_MSL_HALF_OPERATOR(*)
NPU_MSL_HALF_OPERATOR(/)
#undef NPU_MSL_HALF_OPERATOR
template <class H>
  requires(is_half_v<H>)
NPU_MSL H operator-(H a) {
  a.bits ^= 0x8000;
  return a;
}

}  // namespace metal
