// Mathematics. All functions are CUDA's accurate ones; there is no contraction of a * b + c, and fma is one
// operation.
#pragma once

#include "vectors.h"

namespace metal {

// Of floats, of halves (rounded once) and of vectors. bfloat has no mathematics, as on Apple's GPUs.
#define NPU_MSL_MAP1(name, f)                             \
  NPU_MSL float name(float a) { return f(a); }            \
  NPU_MSL half name(half a) { return half(f(float(a))); } \
  float name(bfloat a) = delete;                          \
  template <class T, int N>                               \
  NPU_MSL vec<T, N> name(vec<T, N> a) {                   \
    for (int i = 0; i < N; ++i) a[i] = name(a[i]);        \
    return a;                                             \
  }
NPU_MSL_MAP1(fabs, ::fabsf)
NPU_MSL_MAP1(floor, ::floorf)
NPU_MSL_MAP1(ceil, ::ceilf)
NPU_MSL_MAP1(trunc, ::truncf)
NPU_MSL_MAP1(rint, ::rintf)
NPU_MSL_MAP1(round, ::roundf)
NPU_MSL_MAP1(exp, ::expf)
NPU_MSL_MAP1(exp2, ::exp2f)
NPU_MSL_MAP1(exp10, ::exp10f)
NPU_MSL_MAP1(log, ::logf)
NPU_MSL_MAP1(log2, ::log2f)
NPU_MSL_MAP1(log10, ::log10f)
NPU_MSL_MAP1(sqrt, ::sqrtf)
NPU_MSL_MAP1(rsqrt, ::rsqrtf)
NPU_MSL_MAP1(sin, ::sinf)
NPU_MSL_MAP1(cos, ::cosf)
NPU_MSL_MAP1(tan, ::tanf)
NPU_MSL_MAP1(asin, ::asinf)
NPU_MSL_MAP1(acos, ::acosf)
NPU_MSL_MAP1(atan, ::atanf)
NPU_MSL_MAP1(sinh, ::sinhf)
NPU_MSL_MAP1(cosh, ::coshf)
NPU_MSL_MAP1(tanh, ::tanhf)
NPU_MSL_MAP1(asinh, ::asinhf)
NPU_MSL_MAP1(acosh, ::acoshf)
NPU_MSL_MAP1(atanh, ::atanhf)
#undef NPU_MSL_MAP1

#define NPU_MSL_MAP2(name, f)                                               \
  NPU_MSL float name(float a, float b) { return f(a, b); }                  \
  NPU_MSL half name(half a, half b) { return half(f(float(a), float(b))); } \
  float name(bfloat a, bfloat b) = delete;                                  \
  template <class T, int N>                                                 \
  NPU_MSL vec<T, N> name(vec<T, N> a, vec<T, N> b) {                        \
    for (int i = 0; i < N; ++i) a[i] = name(a[i], b[i]);                    \
    return a;                                                               \
  }
NPU_MSL_MAP2(atan2, ::atan2f)
NPU_MSL_MAP2(copysign, ::copysignf)
NPU_MSL_MAP2(fmod, ::fmodf)
NPU_MSL_MAP2(pow, ::powf)
NPU_MSL_MAP2(fmax, ::fmaxf)
NPU_MSL_MAP2(fmin, ::fminf)
#undef NPU_MSL_MAP2

#define NPU_MSL_TEST(name, condition)                     \
  NPU_MSL bool name(float a) { return condition; }        \
  template <class T, int N>                               \
  NPU_MSL vec<bool, N> name(vec<T, N> a) {                \
    vec<bool, N> r;                                       \
    for (int i = 0; i < N; ++i) r[i] = name(float(a[i])); \
    return r;                                             \
  }
NPU_MSL_TEST(isnan, a != a)
NPU_MSL_TEST(isfinite, ::fabsf(a) < INFINITY)
NPU_MSL_TEST(isinf, ::fabsf(a) == INFINITY)
NPU_MSL_TEST(signbit, (__float_as_uint(a) >> 31) != 0)
#undef NPU_MSL_TEST

NPU_MSL float fma(float a, float b, float c) { return ::fmaf(a, b, c); }
NPU_MSL half fma(half a, half b, half c) {
  half r;
  asm("fma.rn.f16 %0, %1, %2, %3;" : "=h"(r.bits) : "h"(a.bits), "h"(b.bits), "h"(c.bits));
  return r;
}
template <class T, int N>
NPU_MSL vec<T, N> fma(vec<T, N> a, vec<T, N> b, vec<T, N> c) {
  for (int i = 0; i < N; ++i) a[i] = fma(a[i], b[i], c[i]);
  return a;
}
NPU_MSL float ldexp(float a, int e) { return ::ldexpf(a, e); }
NPU_MSL int ilogb(float a) { return ::ilogbf(a); }

// Floats prefer the number to a NaN.
template <class T>
NPU_MSL T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
NPU_MSL T max(T a, T b) {
  return a < b ? b : a;
}
NPU_MSL float min(float a, float b) { return ::fminf(a, b); }
NPU_MSL float max(float a, float b) { return ::fmaxf(a, b); }
NPU_MSL half min(half a, half b) { return half(::fminf(a, b)); }
NPU_MSL half max(half a, half b) { return half(::fmaxf(a, b)); }
template <class T, int N>
NPU_MSL vec<T, N> min(vec<T, N> a, vec<T, N> b) {
  for (int i = 0; i < N; ++i) a[i] = min(a[i], b[i]);
  return a;
}
template <class T, int N>
NPU_MSL vec<T, N> max(vec<T, N> a, vec<T, N> b) {
  for (int i = 0; i < N; ++i) a[i] = max(a[i], b[i]);
  return a;
}
template <class T>
NPU_MSL T clamp(T a, T low, T high) {
  return min(max(a, low), high);
}
template <class T>
NPU_MSL T abs(T a) {
  return a < T(0) ? T(-a) : a;
}
NPU_MSL float abs(float a) { return ::fabsf(a); }
NPU_MSL half abs(half a) { return fabs(a); }
template <class T, int N>
NPU_MSL vec<T, N> abs(vec<T, N> a) {
  for (int i = 0; i < N; ++i) a[i] = abs(a[i]);
  return a;
}
NPU_MSL float sign(float a) { return a > 0 ? 1.0f : a < 0 ? -1.0f : a == 0 ? a : 0.0f; }
template <int N>
NPU_MSL float dot(vec<float, N> a, vec<float, N> b) {
  float sum = a[0] * b[0];
  for (int i = 1; i < N; ++i) sum = ::fmaf(a[i], b[i], sum);
  return sum;
}

NPU_MSL uint popcount(uint a) { return __popc(a); }
NPU_MSL ulong popcount(ulong a) { return __popcll(a); }
NPU_MSL uint clz(uint a) { return __clz(a); }
NPU_MSL ulong clz(ulong a) { return __clzll(a); }
NPU_MSL uint ctz(uint a) { return a ? __ffs(a) - 1 : 32; }
NPU_MSL int mulhi(int a, int b) { return __mulhi(a, b); }
NPU_MSL uint mulhi(uint a, uint b) { return __umulhi(a, b); }
NPU_MSL long mulhi(long a, long b) { return __mul64hi(a, b); }
NPU_MSL ulong mulhi(ulong a, ulong b) { return __umul64hi(a, b); }

// Nothing here is less accurate where MSL would let it be.
namespace precise {
using namespace metal;
}
namespace fast {
using namespace metal;
}

}  // namespace metal
