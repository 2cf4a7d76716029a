// Elementary functions on vectors, to about 2 units in the last place.
#pragma once

#include "cpu/micro/vec.h"

namespace npu::cpu::NPU_ISA {

namespace {

inline F32 absolute(F32 x) { return floats(bits(x) & 0x7fffffff); }
inline F32 with_sign_of(F32 magnitude, F32 x) {
  return floats((bits(magnitude) & 0x7fffffff) | (bits(x) & static_cast<std::int32_t>(0x80000000u)));
}
inline F32 power_of_two(I32 n) { return floats((n + 127) << 23); }  // -126 <= n <= 127

#if defined(__AVX512F__)
inline F32 round_even(F32 x) { return _mm512_maskz_roundscale_ps(0xffff, x, _MM_FROUND_TO_NEAREST_INT); }
inline F32 floor_of(F32 x) { return _mm512_maskz_roundscale_ps(0xffff, x, _MM_FROUND_TO_NEG_INF); }
inline F32 ceil_of(F32 x) { return _mm512_maskz_roundscale_ps(0xffff, x, _MM_FROUND_TO_POS_INF); }
inline F32 trunc_of(F32 x) { return _mm512_maskz_roundscale_ps(0xffff, x, _MM_FROUND_TO_ZERO); }
#elif defined(__AVX2__)
inline F32 round_even(F32 x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline F32 floor_of(F32 x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
inline F32 ceil_of(F32 x) { return _mm256_round_ps(x, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC); }
inline F32 trunc_of(F32 x) { return _mm256_round_ps(x, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC); }
#else
// Half to even. Adding 2^23 leaves no bits for a fraction; larger numbers have none.
inline F32 round_even(F32 x) {
  const F32 a = absolute(x), r = (a + 0x1p23f) - 0x1p23f;
  return with_sign_of(a < 0x1p23f ? r : a, x);
}
inline F32 floor_of(F32 x) {
  const F32 r = round_even(x);
  return with_sign_of(r > x ? r - 1.0f : r, x);
}
inline F32 ceil_of(F32 x) {
  const F32 r = round_even(x);
  return with_sign_of(r < x ? r + 1.0f : r, x);
}
inline F32 trunc_of(F32 x) {
  const F32 a = absolute(x), r = round_even(a);
  return with_sign_of(r > a ? r - 1.0f : r, x);
}
#endif

// Of |r| <= ln 2 / 2.
inline F32 exp_near_zero(F32 r) {
  F32 p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  return p * (r * r) + r + 1.0f;
}

// exp(x - n ln 2), where that is near 1.
inline F32 exp_of_rest(F32 x, F32 n) {
  const F32 r = x - n * 0.693359375f;
  return exp_near_zero(r + n * 2.12194440e-4f);
}

// x * 2^n for a whole n, rounded once.
inline F32 scaled(F32 x, F32 n) {
#if defined(__AVX512F__)
  return _mm512_maskz_scalef_ps(0xffff, x, n);
#else
  // Two factors, because 2^n itself may be too large or too small for a normal number.
  const I32 whole = __builtin_convertvector(n, I32), half = whole >> 1;
  return x * power_of_two(half) * power_of_two(whole - half);
#endif
}

inline F32 exp_of(F32 x) {
  const F32 c = within(x, -104.0f, 89.0f);
  const F32 n = (c * 1.44269504088896341f + 12582912.0f) - 12582912.0f;
  return scaled(exp_of_rest(c, n), n);
}

inline F32 exp2_of(F32 x) {  // exact for whole numbers
  const F32 c = within(x, -151.0f, 129.0f), n = (c + 12582912.0f) - 12582912.0f;
  return scaled(exp_near_zero((c - n) * 0.693147180559945309f), n);
}

// 1 / x for x in [1, 2], to about a unit in the last place.
inline F32 reciprocal_near_one(F32 x) {
#if defined(__AVX512F__)
  const F32 r = _mm512_maskz_rcp14_ps(0xffff, x);
  return r + r * (1.0f - x * r);
#else
  return 1.0f / x;
#endif
}

inline F32 log_of(F32 x) {
  const I32 tiny = x < 1.17549435e-38f;
  const F32 scaled = tiny ? x * 0x1p23f : x;
  I32 e = ((bits(scaled) >> 23) & 0xff) - 127 - (tiny & 23);
  F32 m = floats((bits(scaled) & 0x7fffff) | 0x3f800000);
  const I32 large = m > 1.41421356f;
  m = large ? m * 0.5f : m;
  e = e - large;
  const F32 f = m - 1.0f, z = f * f, k = __builtin_convertvector(e, F32);
  F32 p = f * 7.0376836292e-2f - 1.1514610310e-1f;
  p = p * f + 1.1676998740e-1f;
  p = p * f - 1.2420140846e-1f;
  p = p * f + 1.4249322787e-1f;
  p = p * f - 1.6668057665e-1f;
  p = p * f + 2.0000714765e-1f;
  p = p * f - 2.4999993993e-1f;
  p = p * f + 3.3333331174e-1f;
  F32 r = p * f * z - k * 2.12194440e-4f;
  r = r - 0.5f * z;
  r = f + r;
  r = r + k * 0.693359375f;
  r = x == 0.0f ? all(-__builtin_inff()) : r;
  r = x < 0.0f ? all(__builtin_nanf("")) : r;
  return ((x != x) | (x == __builtin_inff())) ? x : r;
}

// log(1 + y) for y >= 0: what the sum lost is put back.
inline F32 log1p_of_positive(F32 y) {
  const F32 u = y + 1.0f, lost = y - (u - 1.0f);
  return log_of(u) + lost / u;
}

inline F32 tanh_of(F32 x) {
  const F32 a = absolute(x), z = x * x;
  F32 p = z * -5.70498872745e-3f + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  const F32 small = p * z * a + a, large = 1.0f - 2.0f / (exp_of(a + a) + 1.0f);
  return with_sign_of(a < 0.625f ? small : large, x);
}

// erf(x) near zero, as x + x * p(x^2).
inline F32 erf_small(F32 x) {
  const F32 s = x * x;
  F32 p = s * -5.96761703e-4f + 4.99119423e-3f;
  p = p * s - 2.67681349e-2f;
  p = p * s + 1.12819925e-1f;
  p = p * s - 3.76125336e-1f;
  p = p * s + 1.28379166e-1f;
  return p * x + x;
}

// 1 - erf(t) for t > 0.92.
inline F32 erfc_large(F32 t) {
  const F32 s = t * t;
  F32 p = t * -1.72853470e-5f + 3.83197126e-4f;
  const F32 u = t * -3.88396438e-3f + 2.42546219e-2f;
  p = p * s + u;
  p = p * t - 1.06777877e-1f;
  p = p * t - 6.34846687e-1f;
  p = p * t - 1.28717512e-1f;
  p = p * t - t;
  // Beyond 10 the polynomial is no longer meant to be used, and may grow.
  return exp_of(t > 10.0f ? all(-120.0f) : p);
}

inline F32 erf_of(F32 x) {
  const F32 a = absolute(x);
  return a > 0.927734375f ? with_sign_of(1.0f - erfc_large(a), x) : erf_small(x);
}

// From exp(-|x|), which cannot overflow; keeps small results exact.
inline F32 sigmoid_of(F32 x) {
  const F32 e = exp_of(-absolute(x)), r = reciprocal_near_one(1.0f + e);
  return x < 0.0f ? e * r : r;
}
inline F32 silu_of(F32 x) {
  const F32 e = exp_of(-absolute(x));
  return (x < 0.0f ? x * e : x) * reciprocal_near_one(1.0f + e);
}

// x * (1 + erf(x / sqrt 2)) / 2. The negative tail comes from erfc, or nothing would be left of it.
inline F32 gelu_of(F32 x) {
  const F32 t = x * 0.707106781186547524f, a = absolute(t);
  const F32 tail = 0.5f * erfc_large(a);
  const F32 phi = a > 0.927734375f ? (x < 0.0f ? tail : 1.0f - tail) : 0.5f + 0.5f * erf_small(t);
  const F32 y = x * phi;
  return x == -__builtin_inff() ? all(-0.0f) : y;
}
inline F32 gelu_tanh_of(F32 x) {
  const F32 u = x * (x * x * 0.0713548162726f + 1.59576912161f);  // (1 + tanh(u / 2)) / 2 = sigmoid(u)
  const F32 y = x * sigmoid_of(u);
  return x == -__builtin_inff() ? all(-0.0f) : y;
}

inline F32 softplus_of(F32 x) { return (x < 0.0f ? all(0.0f) : x) + log1p_of_positive(exp_of(-absolute(x))); }
inline F32 mish_of(F32 x) {
  const F32 e = exp_of(x > 20.0f ? all(20.0f) : x), w = e * (e + 2.0f);
  return x > 20.0f ? x : x * (w / (w + 2.0f));
}

// Of r in [-pi/4, pi/4].
inline F32 sin_kernel(F32 r) {
  const F32 z = r * r;
  F32 p = z * -1.9515295891e-4f + 8.3321608736e-3f;
  p = p * z - 1.6666654611e-1f;
  return r == 0.0f ? r : p * z * r + r;
}
inline F32 cos_kernel(F32 r) {
  const F32 z = r * r;
  F32 p = z * 2.443315711809948e-5f - 1.388731625493765e-3f;
  p = p * z + 4.166664568298827e-2f;
  return p * z * z - 0.5f * z + 1.0f;
}

}  // namespace

}  // namespace npu::cpu::NPU_ISA
