// Steps of expressions whose results are rounded to 16 bits: float32 loses too little to show there, where
// results of 32 bits need what wide.cpp computes in double.
#include "cpu/micro/functions.h"
#include "cpu/micro/table.h"

namespace npu::cpu::NPU_ISA {

namespace {

constexpr float kPi = 3.14159265358979f, kHalfPi = 1.57079632679490f;

inline bool any_of(I32 lanes) {  // all bits set, or none
#if defined(__AVX512F__)
  return _mm512_movepi32_mask((__m512i)lanes) != 0;
#elif defined(__AVX2__)
  return _mm256_movemask_ps((__m256)lanes) != 0;
#else
  std::int32_t any = 0;
  for (int j = 0; j < kLanes; ++j) any |= lanes[j];
  return any != 0;
#endif
}

inline F32 root_of(F32 x) {
#if defined(__AVX512F__)
  return _mm512_maskz_sqrt_ps(0xffff, x);
#elif defined(__AVX2__)
  return _mm256_sqrt_ps(x);
#else
  F32 v;
  for (int j = 0; j < kLanes; ++j) v[j] = __builtin_sqrtf(x[j]);
  return v;
#endif
}

inline F32 log1p_of(F32 x) {
  const F32 u = x + 1.0f, lost = x - (u - 1.0f), r = log_of(u) + lost / u;
  return x == 0.0f ? x : ((u == 0.0f) | (u == __builtin_inff())) ? log_of(u) : r;
}

inline F32 expm1_of(F32 x) {
  const F32 r = within(x, -0.3f, 0.3f);
  F32 p = r * 1.3981999507e-3f + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const F32 near = x == 0.0f ? x : p * (r * r) + x;  // with the sign of a zero
  return absolute(x) < 0.3f ? near : exp_of(x) - 1.0f;
}

// asin(|x|), or for large ones the half of what it is below pi / 2.
struct Arc {
  F32 part;
  I32 large;
};
inline Arc arc_of(F32 x) {
  const F32 a = absolute(x);
  const I32 large = a > 0.5f;
  const F32 s = large ? 0.5f - 0.5f * a : x * x, r = large ? root_of(s) : a;
  F32 p = s * 4.2166285e-2f + 2.4179526e-2f;
  p = p * s + 4.5470376e-2f;
  p = p * s + 7.4952975e-2f;
  p = p * s + 1.6666752e-1f;
  return {p * s * r + r, large};
}
inline F32 asin_of(F32 x) {
  const Arc arc = arc_of(x);
  return with_sign_of(arc.large ? kHalfPi - 2.0f * arc.part : arc.part, x);
}
inline F32 acos_of(F32 x) {
  const Arc arc = arc_of(x);
  const F32 twice = 2.0f * arc.part, signed_part = x < 0.0f ? -arc.part : arc.part;
  return arc.large ? (x < 0.0f ? kPi - twice : twice) : kHalfPi - signed_part;
}

// Of t in [0, 1].
inline F32 atan_of_part(F32 t) {
  const F32 s = t * t;
  F32 p = s * 2.9206460e-3f - 1.6367743e-2f;
  p = p * s + 4.3211564e-2f;
  p = p * s - 7.5521894e-2f;
  p = p * s + 1.0665993e-1f;
  p = p * s - 1.4211053e-1f;
  p = p * s + 1.9993773e-1f;
  p = p * s - 3.3333153e-1f;
  return p * s * t + t;
}
inline F32 atan_of(F32 x) {
  const F32 a = absolute(x);
  const I32 large = a > 1.0f;
  const F32 r = atan_of_part(large ? 1.0f / a : a);
  return with_sign_of(large ? kHalfPi - r : r, x);
}
inline F32 atan2_of(F32 y, F32 x) {
  const F32 a = absolute(x), b = absolute(y), small = a < b ? a : b, large = a < b ? b : a;
  const F32 ratio = large == 0.0f ? all(0.0f) : small == large ? all(1.0f) : small / large;
  const F32 part = atan_of_part(ratio), first = b > a ? kHalfPi - part : part;
  const F32 r = with_sign_of(bits(x) < 0 ? kPi - first : first, y);
  return ((x != x) | (y != y)) ? x + y : r;
}

// x * (1 + erf(x / sqrt 2)) / 2, by the odd part of what x is multiplied by: to 2.4e-7, which is too much
// beside its tail.
inline F32 half_gelu_of(F32 x) {
  if (any_of(x < -3.0f)) return gelu_of(x);
  const F32 v = x < 5.0f ? x : all(5.0f), u = v * v * 0.08f - 1.0f;
  F32 p = u * 6.0871482e-4f - 1.6132602e-3f;
  p = p * u + 1.7228345e-3f;
  p = p * u - 2.6855874e-3f;
  p = p * u + 6.4104735e-3f;
  p = p * u - 1.1164328e-2f;
  p = p * u + 1.6402192e-2f;
  p = p * u - 2.3268657e-2f;
  p = p * u + 3.1442169e-2f;
  p = p * u - 4.0442608e-2f;
  p = p * u + 5.1520523e-2f;
  p = p * u - 7.0296280e-2f;
  p = p * u + 1.4136378e-1f;
  return x * (p * v + 0.5f);
}

// `quarter` is 0 for the sine and 1 for the cosine. The first part of pi / 2 has 8 bits, so that its products
// are exact, with fused multiply-adds or without.
template <int quarter>
inline F32 sine_of(F32 x) {
  const F32 n = (x * 0.636619772f + 12582912.0f) - 12582912.0f;
  const F32 r = ((x - n * 1.5703125f) - n * 4.83751297e-4f) - n * 7.5497899e-8f;
  const I32 q = __builtin_convertvector(n, I32) + quarter;
  const F32 s = (q & 1) != 0 ? cos_kernel(r) : sin_kernel(r);
  return (q & 2) != 0 ? -s : s;
}

template <int quarter>
void sines(const Micro& micro, const float* x, float* y, std::int64_t n) {
  constexpr float kLargest = 8192.0f;
  float most = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const float a = __builtin_fabsf(x[i]);
    most = a <= kLargest ? most : kLargest + 1;
  }
  if (most > kLargest) return micro.unary(quarter == 0 ? ExprOp::kSin : ExprOp::kCos, x, y, n);
  each(x, y, n, [](F32 v) { return sine_of<quarter>(v); });
}

void half_unary(const Micro& micro, ExprOp op, const float* x, float* y, std::int64_t n) {
  switch (op) {
    case ExprOp::kSin:
      return sines<0>(micro, x, y, n);
    case ExprOp::kCos:
      return sines<1>(micro, x, y, n);
    case ExprOp::kLog2:
      return each(x, y, n, [](F32 v) { return log_of(v) * 1.44269504f; });
    case ExprOp::kLog10:
      return each(x, y, n, [](F32 v) { return log_of(v) * 0.434294482f; });
    case ExprOp::kLog1p:
      return each(x, y, n, [](F32 v) { return log1p_of(v); });
    case ExprOp::kExpm1:
      return each(x, y, n, [](F32 v) { return expm1_of(v); });
    case ExprOp::kAsin:
      return each(x, y, n, [](F32 v) { return asin_of(v); });
    case ExprOp::kAcos:
      return each(x, y, n, [](F32 v) { return acos_of(v); });
    case ExprOp::kAtan:
      return each(x, y, n, [](F32 v) { return atan_of(v); });
    case ExprOp::kGelu:
      return each(x, y, n, [](F32 v) { return half_gelu_of(v); });
    default:
      return micro.unary(op, x, y, n);
  }
}

void half_binary(const Micro& micro, ExprOp op, const float* a, const float* b, float* y, std::int64_t n) {
  if (op != ExprOp::kAtan2) return micro.binary(op, a, b, y, n);
  each(a, b, y, n, [](F32 u, F32 v) { return atan2_of(u, v); });
}

}  // namespace

void fill_half_steps(Micro& micro) {
  micro.half_unary = half_unary;
  micro.half_binary = half_binary;
}

}  // namespace npu::cpu::NPU_ISA
