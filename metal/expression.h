// The steps of expressions that MSL has no function for, or none that is exact enough. Generated functions
// (cpp/gpu/ops/expression.cpp) call these by the names of the steps, with a `_of` where MSL has the name.
#pragma once

#include "common.h"

// 2^n of a whole number -126 <= n <= 127.
inline float power_of_two(int n) { return as_type<float>((n + 127) << 23); }

// exp(r) - 1 for |r| <= ln(2) / 2.
inline float expm1_small(float r) {
  float p = fma(r, 1.9875691500e-4f, 1.3981999507e-3f);
  p = fma(p, r, 8.3334519073e-3f);
  p = fma(p, r, 4.1665795894e-2f);
  p = fma(p, r, 1.6666665459e-1f);
  p = fma(p, r, 5.0000001201e-1f);
  return fma(p, r * r, r);
}

inline float exp_of(float x) { return precise::exp(x); }
inline float log_of(float x) { return precise::log(x); }

inline float expm1_of(float x) {
  if (x == 0.0f) return x;  // with its sign
  if (!(x < 88.0f)) return exp_of(x);
  if (x < -17.5f) return -1.0f;
  const float n = rint(x * 1.44269504088896341f);
  const float r = fma(n, 2.12194440e-4f, fma(n, -0.693359375f, x));
  const float scale = power_of_two(int(n));
  return fma(expm1_small(r), scale, scale - 1.0f);
}

// What the sum 1 + x lost is put back.
inline float log1p_of(float x) {
  if (x == 0.0f) return x;
  const float u = 1.0f + x;
  if (!(u > 0.0f) || u == INFINITY) return log_of(u);
  return log_of(u) + (x - (u - 1.0f)) / u;
}

inline float tanh_of(float x) {
  const float a = fabs(x), z = x * x;
  if (a < 0.625f) {
    float p = fma(z, -5.70498872745e-3f, 2.06390887954e-2f);
    p = fma(p, z, -5.37397155531e-2f);
    p = fma(p, z, 1.33314422036e-1f);
    p = fma(p, z, -3.33332819422e-1f);
    return copysign(fma(p * z, a, a), x);
  }
  return copysign(1.0f - 2.0f / (exp_of(a + a) + 1.0f), x);
}

// erf near zero, as x + x * p(x^2).
inline float erf_small(float x) {
  const float s = x * x;
  float p = fma(s, -5.96761703e-4f, 4.99119423e-3f);
  p = fma(p, s, -2.67681349e-2f);
  p = fma(p, s, 1.12819925e-1f);
  p = fma(p, s, -3.76125336e-1f);
  p = fma(p, s, 1.28379166e-1f);
  return fma(p, x, x);
}

// 1 - erf(t) for t > 0.92.
inline float erfc_large(float t) {
  const float s = t * t;
  float p = fma(t, -1.72853470e-5f, 3.83197126e-4f);
  p = fma(p, s, fma(t, -3.88396438e-3f, 2.42546219e-2f));
  p = fma(p, t, -1.06777877e-1f);
  p = fma(p, t, -6.34846687e-1f);
  p = fma(p, t, -1.28717512e-1f);
  p = fma(p, t, -t);
  // Beyond 10 the polynomial is no longer meant to be used, and may grow.
  return t > 10.0f ? 0.0f : exp_of(p);
}

constant constexpr float kSmallErf = 0.927734375f;

inline float erf_of(float x) {
  const float a = fabs(x);
  return a > kSmallErf ? copysign(1.0f - erfc_large(a), x) : erf_small(x);
}
// The same to the last bits, however small: exp(-t^2) P(u) / (t + 0.5), where P was fitted to 6e-9.
inline float erfc_tail(float t) {
  const float u = (t - 2.5f) / (t + 2.5f);
  float p = 3.937197706e-04f;
  p = fma(p, u, -2.057281541e-03f);
  p = fma(p, u, 3.931992489e-04f);
  p = fma(p, u, 1.636076966e-02f);
  p = fma(p, u, -5.147292682e-02f);
  p = fma(p, u, 7.881608480e-02f);
  p = fma(p, u, -4.951275862e-02f);
  p = fma(p, u, -6.117840086e-02f);
  p = fma(p, u, 6.324190957e-01f);
  const float square = t * t, lost = fma(t, t, -square);
  return t > 10.6f ? 0.0f : exp_of(-square) * (1.0f - lost) * p / (t + 0.5f);
}
inline float erfc_of(float x) {
  if (!(fabs(x) > kSmallErf)) return 1.0f - erf_small(x);
  return x > 0.0f ? erfc_tail(x) : 2.0f - erfc_large(-x);
}

// From exp(-|x|), which cannot overflow; keeps small results exact.
inline float sigmoid_of(float x) {
  const float e = exp_of(-fabs(x)), r = 1.0f / (1.0f + e);
  return x < 0.0f ? e * r : r;
}
inline float silu_of(float x) {
  const float e = exp_of(-fabs(x));
  return (x < 0.0f ? x * e : x) / (1.0f + e);
}

// x * (1 + erf(x / sqrt 2)) / 2. The negative tail comes from erfc, or nothing would be left of it.
inline float gelu_of(float x) {
  const float t = x * 0.707106781186547524f, a = fabs(t);
  if (x == -INFINITY) return -0.0f;
  if (!(a > kSmallErf)) return x * (0.5f + 0.5f * erf_small(t));
  const float tail = 0.5f * erfc_large(a);
  return x * (x < 0.0f ? tail : 1.0f - tail);
}
inline float gelu_tanh_of(float x) {
  const float u = x * fma(x * x, 0.0713548162726f, 1.59576912161f);  // (1 + tanh(u / 2)) / 2 = sigmoid(u)
  return x == -INFINITY ? -0.0f : x * sigmoid_of(u);
}

inline float softplus_of(float x) { return (x < 0.0f ? 0.0f : x) + log1p_of(exp_of(-fabs(x))); }
inline float mish_of(float x) {
  if (x > 20.0f) return x;
  const float e = exp_of(x), w = e * (e + 2.0f);
  return x * (w / (w + 2.0f));
}

template <typename T>
inline T nan_min(T a, T b) {
  return a < b || a != a ? a : b;
}
inline float hardsigmoid_of(float x) { return nan_min(nan_max(x + 3.0f, 0.0f), 6.0f) / 6.0f; }
inline float hardswish_of(float x) { return x * nan_min(nan_max(x + 3.0f, 0.0f), 6.0f) / 6.0f; }
inline float relu_of(float x) { return x < 0.0f ? 0.0f : x; }
inline float sign_of(float x) { return x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : 0.0f; }

// log2 of a finite a > 0 as a sum of two floats, so that a power keeps all its bits.
inline float2 log2_parts(float a) {
  int e = 0;
  if (a < 1.17549435e-38f) {
    a *= 16777216.0f;
    e = -24;
  }
  const int bits = as_type<int>(a);
  const int up = (bits & 0x7fffff) > 0x3504f3 ? 1 : 0;  // mantissas beyond sqrt 2 are halved
  e += ((bits >> 23) & 0xff) - 127 + up;
  const float m = as_type<float>((bits & 0x7fffff) | ((127 - up) << 23));
  const float f = m - 1.0f, d = m + 1.0f, d_lost = m - (d - 1.0f);
  const float s = f / d, s_lost = (fma(-s, d, f) - s * d_lost) / d;
  const float z = s * s;
  float p = fma(z, 7.6923077e-2f, 9.0909091e-2f);
  p = fma(p, z, 1.1111111e-1f);
  p = fma(p, z, 1.4285714e-1f);
  p = fma(p, z, 2.0e-1f);
  p = fma(p, z, 3.3333334e-1f);
  constexpr float kTwoOverLn2 = 2.8853900f, kLost = 3.8519260e-8f;
  const float high = s * kTwoOverLn2;
  float low = fma(s, kTwoOverLn2, -high) + s * kLost;
  low += s_lost * kTwoOverLn2 + s * (p * z) * kTwoOverLn2;
  const float sum = float(e) + high;
  return float2(sum, low + (high - (sum - float(e))));
}

inline float exp2_parts(float high, float low) {
  if (high > 129.0f) return INFINITY;
  if (high < -151.0f) return 0.0f;
  const float n = rint(high), r = ((high - n) + low) * 0.693147180559945309f;
  const int whole = int(n), half_of = whole >> 1;
  return (1.0f + expm1_small(r)) * power_of_two(half_of) * power_of_two(whole - half_of);
}

inline float power_of_magnitude(float a, float y) {
  if (a == 1.0f) return 1.0f;
  if (a == 0.0f || a == INFINITY) return (a == 0.0f) == (y > 0.0f) ? 0.0f : INFINITY;
  if (fabs(y) == INFINITY) return (a > 1.0f) == (y > 0.0f) ? INFINITY : 0.0f;
  const float2 l = log2_parts(a);
  const float high = y * l.x;
  return exp2_parts(high, fma(y, l.x, -high) + y * l.y);
}

// As C has it; MSL leaves negative bases open.
inline float pow_of(float x, float y) {
  if (y == 0.0f || x == 1.0f) return 1.0f;
  if (isnan(x) || isnan(y)) return NAN;
  const float magnitude = power_of_magnitude(fabs(x), y);
  if (as_type<int>(x) >= 0) return magnitude;
  const float half_of = y * 0.5f;
  const bool whole = floor(y) == y;
  if (!whole && x != 0.0f && x != -INFINITY) return NAN;
  const bool odd = whole && fabs(y) < 16777216.0f && floor(half_of) != half_of;
  return odd ? -magnitude : magnitude;
}

// x - trunc(x / y) * y without rounding, however large the quotient is.
inline float fmod_of(float x, float y) {
  const float divisor = fabs(y);
  if (!(fabs(x) < INFINITY) || !(divisor > 0.0f)) return NAN;
  float rest = fabs(x);
  while (rest >= divisor) {
    float part = divisor;
    if (rest / divisor >= 4194304.0f) part = ldexp(divisor, ilogb(rest) - ilogb(divisor) - 22);
    rest = fma(-trunc(rest / part), part, rest);
    if (rest < 0.0f) rest += part;
  }
  return copysign(rest, x);
}

inline float hypot_of(float x, float y) {
  const float a = fabs(x), b = fabs(y), most = max(a, b), least = min(a, b);
  if (a == INFINITY || b == INFINITY) return INFINITY;
  if (isnan(x) || isnan(y)) return NAN;
  if (most == 0.0f) return 0.0f;
  const float r = least / most;
  return most * precise::sqrt(fma(r, r, 1.0f));
}

// The nearest integer that T has, without the fraction; NaN gives 0. The bounds are powers of two, which
// float has.
template <typename T>
inline long to_integer(float x) {
  constexpr float end = float(1ul << (numeric_limits<T>::digits - 1)) * 2.0f;
  if (x >= end) return long(numeric_limits<T>::max());
  if (x <= (numeric_limits<T>::is_signed ? -end : 0.0f)) return long(numeric_limits<T>::min());
  return isnan(x) ? 0 : long(x);
}

// Integers wrap; the arithmetic is unsigned because signed overflow means nothing.
inline long wrapping_add(long a, long b) { return long(ulong(a) + ulong(b)); }
inline long wrapping_sub(long a, long b) { return long(ulong(a) - ulong(b)); }
inline long wrapping_mul(long a, long b) { return long(ulong(a) * ulong(b)); }
inline long wrapping_neg(long a) { return long(0ul - ulong(a)); }
inline long wrapping_abs(long a) { return a < 0 ? wrapping_neg(a) : a; }
inline long relu_of(long a) { return a > 0 ? a : 0; }
inline long sign_of(long a) { return long(a > 0) - long(a < 0); }
inline long shift_left(long a, long b) { return b < 0 || b > 63 ? 0 : long(ulong(a) << b); }
inline long shift_right(long a, long b) { return a >> (b < 0 || b > 63 ? 63 : b); }

// A zero as divisor has been reported when these are called with it.
inline long div_trunc(long a, long b) { return b == 0 ? 0 : b == -1 ? wrapping_neg(a) : a / b; }
inline long rem_trunc(long a, long b) { return b == 0 || b == -1 ? 0 : a % b; }
inline long div_floor(long a, long b) {
  return div_trunc(a, b) - long(rem_trunc(a, b) != 0 && (a < 0) != (b < 0));
}
inline long rem_floor(long a, long b) {
  const long r = rem_trunc(a, b);
  return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

inline long ipow_of(long base, long exponent) {
  if (exponent < 0) return base == 1 ? 1 : base == -1 ? (exponent % 2 == 0 ? 1 : -1) : 0;
  ulong result = 1, square = ulong(base);
  for (ulong e = ulong(exponent); e != 0; e >>= 1) {
    if ((e & 1) != 0) result *= square;
    square *= square;
  }
  return long(result);
}

// Reports a zero; the first thing reported stays.
inline long checked_divisor(long divisor, device Status* status) {
  int expected = divisor == 0 ? 0 : 1;
  while (expected == 0) {
    const bool taken = atomic_compare_exchange_weak_explicit(
        (device atomic_int*)&status->dimension, &expected, -1, memory_order_relaxed, memory_order_relaxed);
    if (taken) break;
  }
  return divisor;
}
