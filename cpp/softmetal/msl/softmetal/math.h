// Floating-point functions, for float, half and their vectors. Apple's library has none of them for bfloat:
// those overloads are deleted, so that a kernel which forgets to convert does not compile here either.
#pragma once

#include "vector.h"

namespace metal {

#define SOFTMETAL_MATH1(name, builtin)                                                   \
  inline float name(float a) { return builtin(a); }                                      \
  inline half name(half a) { return static_cast<half>(builtin(static_cast<float>(a))); } \
  bfloat name(bfloat) = delete;                                                          \
  template <class T, int N>                                                              \
    requires(is_floating_point_v<T> && !is_same_v<T, bfloat>)                            \
  inline vec<T, N> name(vec<T, N> a) {                                                   \
    return map_elements<T>(a, [](T p) { return name(p); });                              \
  }
#define SOFTMETAL_MATH2(name, builtin)                                               \
  inline float name(float a, float b) { return builtin(a, b); }                      \
  inline half name(half a, half b) {                                                 \
    return static_cast<half>(builtin(static_cast<float>(a), static_cast<float>(b))); \
  }                                                                                  \
  bfloat name(bfloat, bfloat) = delete;                                              \
  template <class T, int N>                                                          \
    requires(is_floating_point_v<T> && !is_same_v<T, bfloat>)                        \
  inline vec<T, N> name(vec<T, N> a, type_identity_t<vec<T, N>> b) {                 \
    return map_elements<T>(a, b, [](T p, T q) { return name(p, q); });               \
  }
#define SOFTMETAL_TEST1(name, builtin)                                \
  inline bool name(float a) { return builtin(a); }                    \
  inline bool name(half a) { return builtin(static_cast<float>(a)); } \
  bool name(bfloat) = delete;                                         \
  template <class T, int N>                                           \
    requires(is_floating_point_v<T> && !is_same_v<T, bfloat>)         \
  inline vec<bool, N> name(vec<T, N> a) {                             \
    return map_elements<bool>(a, [](T p) { return name(p); });        \
  }

namespace scalar_math {
inline float reciprocal_root(float a) { return 1.0f / __builtin_sqrtf(a); }
inline float signum(float a) { return a > 0 ? 1.0f : a < 0 ? -1.0f : a == 0 ? a : 0.0f; }
inline float unit(float a) { return a < 0 || a != a ? 0.0f : a > 1 ? 1.0f : a; }
// Of pi * a: exact at multiples of a half. a is n halves, and a rest of at most a quarter.
struct Halves {
  int n;
  float rest;
};
inline Halves halves(float a) {
  float turn = a - 2 * __builtin_rintf(a / 2), n = __builtin_rintf(2 * turn);
  return {static_cast<int>(n), 3.14159265358979f * (turn - n / 2)};
}
inline float sine_pi(float a) {
  Halves h = halves(a);
  if (h.n % 2 == 0 && h.rest == 0) return __builtin_copysignf(0.0f, a);
  float size = h.n % 2 ? __builtin_cosf(h.rest) : __builtin_sinf(h.rest);
  return h.n == -1 || h.n == 2 || h.n == -2 ? -size : size;
}
inline float cosine_pi(float a) {
  Halves h = halves(a);
  if (h.n % 2 == 0) return h.n == 0 ? __builtin_cosf(h.rest) : -__builtin_cosf(h.rest);
  return h.n > 0 ? 0.0f - __builtin_sinf(h.rest) : 0.0f + __builtin_sinf(h.rest);
}
inline float power_of_ten(float a) { return __builtin_powf(10.0f, a); }
}  // namespace scalar_math

SOFTMETAL_MATH1(acos, __builtin_acosf)
SOFTMETAL_MATH1(acosh, __builtin_acoshf)
SOFTMETAL_MATH1(asin, __builtin_asinf)
SOFTMETAL_MATH1(asinh, __builtin_asinhf)
SOFTMETAL_MATH1(atan, __builtin_atanf)
SOFTMETAL_MATH1(atanh, __builtin_atanhf)
SOFTMETAL_MATH1(ceil, __builtin_ceilf)
SOFTMETAL_MATH1(cos, __builtin_cosf)
SOFTMETAL_MATH1(cosh, __builtin_coshf)
SOFTMETAL_MATH1(cospi, scalar_math::cosine_pi)
SOFTMETAL_MATH1(exp, __builtin_expf)
SOFTMETAL_MATH1(exp2, __builtin_exp2f)
SOFTMETAL_MATH1(exp10, scalar_math::power_of_ten)
SOFTMETAL_MATH1(fabs, __builtin_fabsf)
SOFTMETAL_MATH1(abs, __builtin_fabsf)
SOFTMETAL_MATH1(floor, __builtin_floorf)
SOFTMETAL_MATH1(log, __builtin_logf)
SOFTMETAL_MATH1(log2, __builtin_log2f)
SOFTMETAL_MATH1(log10, __builtin_log10f)
SOFTMETAL_MATH1(rint, __builtin_rintf)
SOFTMETAL_MATH1(round, __builtin_roundf)
SOFTMETAL_MATH1(rsqrt, scalar_math::reciprocal_root)
SOFTMETAL_MATH1(saturate, scalar_math::unit)
SOFTMETAL_MATH1(sign, scalar_math::signum)
SOFTMETAL_MATH1(sin, __builtin_sinf)
SOFTMETAL_MATH1(sinh, __builtin_sinhf)
SOFTMETAL_MATH1(sinpi, scalar_math::sine_pi)
SOFTMETAL_MATH1(sqrt, __builtin_sqrtf)
SOFTMETAL_MATH1(tan, __builtin_tanf)
SOFTMETAL_MATH1(tanh, __builtin_tanhf)
SOFTMETAL_MATH1(trunc, __builtin_truncf)
SOFTMETAL_MATH2(atan2, __builtin_atan2f)
SOFTMETAL_MATH2(copysign, __builtin_copysignf)
SOFTMETAL_MATH2(fdim, __builtin_fdimf)
SOFTMETAL_MATH2(fmax, __builtin_fmaxf)
SOFTMETAL_MATH2(fmin, __builtin_fminf)
SOFTMETAL_MATH2(fmod, __builtin_fmodf)
SOFTMETAL_MATH2(max, __builtin_fmaxf)
SOFTMETAL_MATH2(min, __builtin_fminf)
SOFTMETAL_MATH2(nextafter, __builtin_nextafterf)
SOFTMETAL_MATH2(pow, __builtin_powf)
SOFTMETAL_MATH2(powr, __builtin_powf)
SOFTMETAL_TEST1(isfinite, __builtin_isfinite)
SOFTMETAL_TEST1(isinf, __builtin_isinf)
SOFTMETAL_TEST1(isnan, __builtin_isnan)
SOFTMETAL_TEST1(isnormal, __builtin_isnormal)
SOFTMETAL_TEST1(signbit, __builtin_signbit)

#define SOFTMETAL_MATH3(name, expression)                                                          \
  inline float name(float a, float b, float c) { return expression; }                              \
  inline half name(half p, half q, half r) {                                                       \
    float a = p, b = q, c = r;                                                                     \
    return static_cast<half>(expression);                                                          \
  }                                                                                                \
  bfloat name(bfloat, bfloat, bfloat) = delete;                                                    \
  template <class T, int N>                                                                        \
    requires(is_floating_point_v<T> && !is_same_v<T, bfloat>)                                      \
  inline vec<T, N> name(vec<T, N> a, type_identity_t<vec<T, N>> b, type_identity_t<vec<T, N>> c) { \
    vec<T, N> result;                                                                              \
    for (int i = 0; i < N; ++i) result.put(i, name(a.get(i), b.get(i), c.get(i)));                 \
    return result;                                                                                 \
  }
SOFTMETAL_MATH3(fma, __builtin_fmaf(a, b, c))
SOFTMETAL_MATH3(mix, a + (b - a) * c)
SOFTMETAL_MATH3(clamp, __builtin_fminf(__builtin_fmaxf(a, b), c))
SOFTMETAL_MATH3(smoothstep, ((c = __builtin_fminf(__builtin_fmaxf((c - a) / (b - a), 0.0f), 1.0f)),
                             c * c * (3.0f - 2.0f * c)))
#undef SOFTMETAL_MATH1
#undef SOFTMETAL_MATH2
#undef SOFTMETAL_MATH3
#undef SOFTMETAL_TEST1

// Below 1, also where the difference rounds to it.
inline float fract(float a) {
  float rest = a - __builtin_floorf(a);
  return rest > 0x1.fffffep-1f ? 0x1.fffffep-1f : rest;
}
inline half fract(half a) {
  float rest = static_cast<float>(a) - __builtin_floorf(static_cast<float>(a));
  return static_cast<half>(rest > 0x1.ffcp-1f ? 0x1.ffcp-1f : rest);
}
bfloat fract(bfloat) = delete;
template <class T, int N>
  requires(is_floating_point_v<T> && !is_same_v<T, bfloat>)
inline vec<T, N> fract(vec<T, N> a) {
  return map_elements<T>(a, [](T p) { return fract(p); });
}

template <class T>
inline T step(T edge, type_identity_t<T> x) {
  return x < edge ? T(0) : T(1);
}
inline float ldexp(float a, int exponent) { return __builtin_ldexpf(a, exponent); }
inline half ldexp(half a, int exponent) { return static_cast<half>(__builtin_ldexpf(a, exponent)); }
inline float frexp(float a, int& exponent) { return __builtin_frexpf(a, &exponent); }
inline float modf(float a, float& whole) { return __builtin_modff(a, &whole); }
inline float sincos(float a, float& cosine) {
  cosine = __builtin_cosf(a);
  return __builtin_sinf(a);
}
inline int ilogb(float a) { return __builtin_ilogbf(a); }

template <class T, int N>
inline T dot(vec<T, N> a, vec<T, N> b) {
  static_assert(!is_same_v<T, bfloat>, "Metal has no dot of bfloat: convert to float");
  T sum = a.get(0) * b.get(0);
  for (int i = 1; i < N; ++i) sum += a.get(i) * b.get(i);
  return sum;
}
template <class T, int N>
inline T length_squared(vec<T, N> a) {
  return dot(a, a);
}
template <class T, int N>
inline T length(vec<T, N> a) {
  return sqrt(dot(a, a));
}
template <class T, int N>
inline T distance(vec<T, N> a, vec<T, N> b) {
  return length(a - b);
}
template <class T, int N>
inline vec<T, N> normalize(vec<T, N> a) {
  return a * rsqrt(dot(a, a));
}
template <class T>
inline vec<T, 3> cross(vec<T, 3> a, vec<T, 3> b) {
  return vec<T, 3>(a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x);
}

// Both name the same functions here: the fast ones are as exact as the others.
namespace precise {
using namespace metal;
}
namespace fast {
using namespace metal;
}

}  // namespace metal
