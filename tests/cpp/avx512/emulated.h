// AVX-512 on a processor with AVX2: each intrinsic that cpp/cpu/micro uses, one lane after the other. With
// NPU_EMULATE_AVX512=ON this file is included before the avx512 instances of micro/ (-include), which find
// these functions in their own namespace, before those of <immintrin.h>. Vectors of 64 bytes are taken apart
// by the compiler.
#pragma once

#include <immintrin.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>

// What the sources ask; only now, because <immintrin.h> asks too.
#define __AVX512F__ 1
#define __AVX512BW__ 1
#define __AVX512DQ__ 1
#define __AVX512VL__ 1
#if defined(NPU_EMULATE_AVX512_BF16)
#define __AVX512BF16__ 1
#endif

// Macros in some compilers and builds.
#undef _mm512_cmp_ps_mask
#undef _mm512_fpclass_ps_mask
#undef _mm512_insertf32x8
#undef _mm512_mask_i64gather_ps
#undef _mm512_maskz_cvtps_ph
#undef _mm512_maskz_insertf32x8
#undef _mm512_maskz_roundscale_ps
#undef _mm512_maskz_srli_epi16

namespace npu::cpu::NPU_ISA {

namespace {

template <class T, class V>
inline auto lanes_in(const V& v) {
  std::array<T, sizeof(V) / sizeof(T)> lanes;
  std::memcpy(lanes.data(), &v, sizeof v);
  return lanes;
}

// Lane i is lane(i) where the mask has bit i, and 0 elsewhere. Lanes left out are not asked for.
template <class V, class F>
inline V masked(std::uint64_t mask, F lane) {
  std::array<decltype(lane(0u)), sizeof(V) / sizeof(lane(0u))> lanes = {};
  for (unsigned i = 0; i < lanes.size(); ++i)
    if ((mask >> i & 1u) != 0) lanes[i] = lane(i);
  V v;
  std::memcpy(&v, lanes.data(), sizeof v);
  return v;
}

template <class T, class V>
inline V loaded(std::uint64_t mask, const void* p) {
  return masked<V>(mask, [p](unsigned i) {
    T x;
    std::memcpy(&x, static_cast<const char*>(p) + i * sizeof x, sizeof x);
    return x;
  });
}

template <class From, class To, class V, class W>
inline V converted(std::uint64_t mask, const W& w) {
  const auto x = lanes_in<From>(w);
  return masked<V>(mask, [&x](unsigned i) { return static_cast<To>(x[i]); });
}

// Loads and stores.
inline __m512i _mm512_loadu_si512(const void* p) { return loaded<std::int64_t, __m512i>(0xff, p); }
inline __m512i _mm512_load_si512(const void* p) {
  if (reinterpret_cast<std::uintptr_t>(p) % 64 != 0) std::abort();  // as the processor does
  return _mm512_loadu_si512(p);
}
inline __m512 _mm512_maskz_loadu_ps(__mmask16 k, const void* p) { return loaded<float, __m512>(k, p); }
inline __m512i _mm512_maskz_loadu_epi32(__mmask16 k, const void* p) {
  return loaded<std::int32_t, __m512i>(k, p);
}
inline __m512i _mm512_maskz_loadu_epi16(__mmask32 k, const void* p) {
  return loaded<std::int16_t, __m512i>(k, p);
}
inline __m256i _mm256_maskz_loadu_epi16(__mmask16 k, const void* p) {
  return loaded<std::int16_t, __m256i>(k, p);
}
inline __m128i _mm_maskz_loadu_epi32(__mmask8 k, const void* p) {
  return loaded<std::int32_t, __m128i>(k, p);
}
inline __m128i _mm_maskz_loadu_epi8(__mmask16 k, const void* p) { return loaded<std::int8_t, __m128i>(k, p); }
inline void _mm512_storeu_si512(void* p, __m512i v) { std::memcpy(p, &v, sizeof v); }
inline void _mm512_mask_storeu_ps(void* p, __mmask16 k, __m512 v) {
  const auto x = lanes_in<float>(v);
  for (unsigned i = 0; i < x.size(); ++i)
    if ((k >> i & 1u) != 0) std::memcpy(static_cast<char*>(p) + i * sizeof(float), &x[i], sizeof(float));
}
inline __m256 _mm512_mask_i64gather_ps(__m256 from, __mmask8 k, __m512i at, const void* p, int scale) {
  const auto old = lanes_in<float>(from);
  const auto index = lanes_in<std::int64_t>(at);
  return masked<__m256>(0xff, [&](unsigned i) {
    float x = old[i];
    if ((k >> i & 1u) != 0) std::memcpy(&x, static_cast<const char*>(p) + index[i] * scale, sizeof x);
    return x;
  });
}

// Vectors of one value, of given values, of parts.
inline __m512i _mm512_set1_epi32(int x) {
  return masked<__m512i>(0xffff, [x](unsigned) { return x; });
}
inline __m512i _mm512_mask_set1_epi32(__m512i from, __mmask16 k, int x) {
  const auto old = lanes_in<std::int32_t>(from);
  return masked<__m512i>(0xffff, [&](unsigned i) { return (k >> i & 1u) != 0 ? x : old[i]; });
}
template <class... T>
inline __m512i _mm512_set_epi16(T... last_to_first) {
  static_assert(sizeof...(T) == 32);
  const std::int16_t x[] = {static_cast<std::int16_t>(last_to_first)...};
  return masked<__m512i>(0xffffffff, [&x](unsigned i) { return x[31 - i]; });
}
inline __m512i _mm512_maskz_broadcast_i32x4(__mmask16 k, __m128i v) {
  const auto x = lanes_in<std::int32_t>(v);
  return masked<__m512i>(k, [&x](unsigned i) { return x[i % 4]; });
}
inline __m512i _mm512_maskz_broadcast_i64x4(__mmask8 k, __m256i v) {
  const auto x = lanes_in<std::int64_t>(v);
  return masked<__m512i>(k, [&x](unsigned i) { return x[i % 4]; });
}
inline __m512 _mm512_castps256_ps512(__m256 v) {
  const auto x = lanes_in<float>(v);  // the upper half may be anything
  return masked<__m512>(0xffff, [&x](unsigned i) { return i < 8 ? x[i] : std::nanf(""); });
}
inline __m512 _mm512_maskz_insertf32x8(__mmask16 k, __m512 v, __m256 half, int which) {
  const auto x = lanes_in<float>(v);
  const auto y = lanes_in<float>(half);
  return masked<__m512>(k, [&](unsigned i) { return i / 8 == (which & 1u) ? y[i % 8] : x[i]; });
}
inline __m512 _mm512_insertf32x8(__m512 v, __m256 half, int which) {
  return _mm512_maskz_insertf32x8(0xffff, v, half, which);
}

// Lanes by their numbers.
inline __m512 _mm512_maskz_permutexvar_ps(__mmask16 k, __m512i numbers, __m512 v) {
  const auto n = lanes_in<std::uint32_t>(numbers);
  const auto x = lanes_in<float>(v);
  return masked<__m512>(k, [&](unsigned i) { return x[n[i] % 16]; });
}
inline __m512i _mm512_maskz_permutexvar_epi32(__mmask16 k, __m512i numbers, __m512i v) {
  const auto n = lanes_in<std::uint32_t>(numbers);
  const auto x = lanes_in<std::int32_t>(v);
  return masked<__m512i>(k, [&](unsigned i) { return x[n[i] % 16]; });
}
inline __m512i _mm512_maskz_permutexvar_epi16(__mmask32 k, __m512i numbers, __m512i v) {
  const auto n = lanes_in<std::uint16_t>(numbers);
  const auto x = lanes_in<std::int16_t>(v);
  return masked<__m512i>(k, [&](unsigned i) { return x[n[i] % 32]; });
}
inline __m512i _mm512_maskz_permutex2var_epi16(__mmask32 k, __m512i a, __m512i numbers, __m512i b) {
  const auto n = lanes_in<std::uint16_t>(numbers);
  const auto x = lanes_in<std::int16_t>(a), y = lanes_in<std::int16_t>(b);
  return masked<__m512i>(k, [&](unsigned i) { return n[i] % 64 < 32 ? x[n[i] % 32] : y[n[i] % 32]; });
}
inline __m512i _mm512_maskz_shuffle_epi8(__mmask64 k, __m512i v, __m512i numbers) {  // within each 16 bytes
  const auto n = lanes_in<std::uint8_t>(numbers), x = lanes_in<std::uint8_t>(v);
  return masked<__m512i>(
      k, [&](unsigned i) { return n[i] < 128 ? x[i / 16 * 16 + n[i] % 16] : std::uint8_t{0}; });
}

// Masks.
inline __mmask16 _mm_test_epi8_mask(__m128i a, __m128i b) {
  const auto x = lanes_in<std::uint8_t>(a), y = lanes_in<std::uint8_t>(b);
  unsigned mask = 0;
  for (unsigned i = 0; i < 16; ++i) mask |= ((x[i] & y[i]) != 0 ? 1u : 0u) << i;
  return static_cast<__mmask16>(mask);
}
inline __mmask16 _mm512_movepi32_mask(__m512i v) {
  const auto x = lanes_in<std::uint32_t>(v);
  unsigned mask = 0;
  for (unsigned i = 0; i < 16; ++i) mask |= x[i] >> 31 << i;
  return static_cast<__mmask16>(mask);
}
inline __mmask16 _mm512_cmp_ps_mask(__m512 a, __m512 b, int predicate) {
  if (predicate != _CMP_UNORD_Q) std::abort();  // no other is used
  const auto x = lanes_in<float>(a), y = lanes_in<float>(b);
  unsigned mask = 0;
  for (unsigned i = 0; i < 16; ++i) mask |= (std::isnan(x[i]) || std::isnan(y[i]) ? 1u : 0u) << i;
  return static_cast<__mmask16>(mask);
}
inline __mmask16 _mm512_fpclass_ps_mask(__m512 v, int classes) {
  if (classes != 0x20) std::abort();  // denormals; no other is used
  const auto x = lanes_in<float>(v);
  unsigned mask = 0;
  for (unsigned i = 0; i < 16; ++i) mask |= (std::fpclassify(x[i]) == FP_SUBNORMAL ? 1u : 0u) << i;
  return static_cast<__mmask16>(mask);
}
inline __m512 _mm512_mask_blend_ps(__mmask16 k, __m512 a, __m512 b) {
  const auto x = lanes_in<float>(a), y = lanes_in<float>(b);
  return masked<__m512>(0xffff, [&](unsigned i) { return (k >> i & 1u) != 0 ? y[i] : x[i]; });
}

// Arithmetic.
inline __m512 _mm512_maskz_max_ps(__mmask16 k, __m512 a, __m512 b) {  // b where one is a NaN or both are 0
  const auto x = lanes_in<float>(a), y = lanes_in<float>(b);
  return masked<__m512>(k, [&](unsigned i) { return x[i] > y[i] ? x[i] : y[i]; });
}
inline __m512 _mm512_maskz_min_ps(__mmask16 k, __m512 a, __m512 b) {
  const auto x = lanes_in<float>(a), y = lanes_in<float>(b);
  return masked<__m512>(k, [&](unsigned i) { return x[i] < y[i] ? x[i] : y[i]; });
}
inline __m512 _mm512_maskz_sqrt_ps(__mmask16 k, __m512 v) {
  const auto x = lanes_in<float>(v);
  return masked<__m512>(k, [&x](unsigned i) { return std::sqrt(x[i]); });
}
inline __m512 _mm512_maskz_roundscale_ps(__mmask16 k, __m512 v, int how) {
  const auto x = lanes_in<float>(v);
  return masked<__m512>(k, [&](unsigned i) {
    switch (how) {
      case _MM_FROUND_TO_NEAREST_INT:
        return std::nearbyint(x[i]);
      case _MM_FROUND_TO_NEG_INF:
        return std::floor(x[i]);
      case _MM_FROUND_TO_POS_INF:
        return std::ceil(x[i]);
      case _MM_FROUND_TO_ZERO:
        return std::trunc(x[i]);
      default:
        std::abort();  // no other is used
    }
  });
}
inline float scalef(float x, float n) {  // x * 2^floor(n), rounded once
  if (std::isnan(x) || std::isnan(n)) return x + n;
  if (std::isinf(n)) return x * (n > 0 ? n : 0.0f);
  const double whole = std::floor(static_cast<double>(n));  // past 400 nothing changes, and doubles are exact
  return static_cast<float>(std::ldexp(static_cast<double>(x), whole < -400  ? -400
                                                               : whole > 400 ? 400
                                                                             : static_cast<int>(whole)));
}
inline __m512 _mm512_maskz_scalef_ps(__mmask16 k, __m512 a, __m512 b) {
  const auto x = lanes_in<float>(a), n = lanes_in<float>(b);
  return masked<__m512>(k, [&](unsigned i) { return scalef(x[i], n[i]); });
}
inline __m512 _mm512_maskz_rcp14_ps(__mmask16 k, __m512 v) {  // no better than the processor promises
  const auto x = lanes_in<float>(v);
  return masked<__m512>(
      k, [&x](unsigned i) { return 1.0f / x[i] * (1.0f + (i % 2 == 0 ? 0x1p-15f : -0x1p-15f)); });
}
inline __m512i _mm512_maskz_srli_epi16(__mmask32 k, __m512i v, unsigned n) {
  const auto x = lanes_in<std::uint16_t>(v);
  return masked<__m512i>(k, [&](unsigned i) { return static_cast<std::uint16_t>(n < 16 ? x[i] >> n : 0); });
}
inline __m512i _mm512_maskz_srlv_epi16(__mmask32 k, __m512i v, __m512i by) {
  const auto x = lanes_in<std::uint16_t>(v), n = lanes_in<std::uint16_t>(by);
  return masked<__m512i>(
      k, [&](unsigned i) { return static_cast<std::uint16_t>(n[i] < 16 ? x[i] >> n[i] : 0); });
}

// Conversions.
inline __m512i _mm512_maskz_cvtepi8_epi32(__mmask16 k, __m128i v) {
  return converted<std::int8_t, std::int32_t, __m512i>(k, v);
}
inline __m512i _mm512_maskz_cvtepu8_epi32(__mmask16 k, __m128i v) {
  return converted<std::uint8_t, std::int32_t, __m512i>(k, v);
}
inline __m512i _mm512_maskz_cvtepi16_epi32(__mmask16 k, __m256i v) {
  return converted<std::int16_t, std::int32_t, __m512i>(k, v);
}
inline __m512i _mm512_maskz_cvtepu16_epi32(__mmask16 k, __m256i v) {
  return converted<std::uint16_t, std::int32_t, __m512i>(k, v);
}
inline __m256i _mm512_maskz_cvtepi32_epi16(__mmask16 k, __m512i v) {
  return converted<std::int32_t, std::int16_t, __m256i>(k, v);
}
inline __m512 _mm512_maskz_cvtepi32_ps(__mmask16 k, __m512i v) {
  return converted<std::int32_t, float, __m512>(k, v);
}
inline __m256 _mm512_maskz_cvtepi64_ps(__mmask8 k, __m512i v) {
  return converted<std::int64_t, float, __m256>(k, v);
}
inline __m512d _mm512_maskz_cvtps_pd(__mmask8 k, __m256 v) { return converted<float, double, __m512d>(k, v); }
inline __m256 _mm512_maskz_cvtpd_ps(__mmask8 k, __m512d v) { return converted<double, float, __m256>(k, v); }
inline __m512 _mm512_maskz_cvtph_ps(__mmask16 k, __m256i v) {
  const auto x = lanes_in<std::uint16_t>(v);
  return masked<__m512>(k, [&x](unsigned i) { return _cvtsh_ss(x[i]); });
}
inline __m256i _mm512_maskz_cvtps_ph(__mmask16 k, __m512 v, int how) {
  if (how != _MM_FROUND_TO_NEAREST_INT) std::abort();  // no other is used
  const auto x = lanes_in<float>(v);
  return masked<__m256i>(
      k, [&x](unsigned i) { return static_cast<std::uint16_t>(_cvtss_sh(x[i], _MM_FROUND_TO_NEAREST_INT)); });
}

#if defined(__AVX512BF16__)

// These instructions take denormals for 0 of the same sign, and make none.
inline float without_denormals(float x) {
  return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0f, x) : x;
}
inline std::uint16_t bf16_of(float x) {
  std::uint32_t u;
  x = without_denormals(x);
  std::memcpy(&u, &x, sizeof u);
  return static_cast<std::uint16_t>(std::isnan(x) ? u >> 16 | 0x40u : (u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}
inline float float_of(std::uint16_t bf16) {
  const std::uint32_t u = static_cast<std::uint32_t>(bf16) << 16;
  float x;
  std::memcpy(&x, &u, sizeof x);
  return without_denormals(x);
}
inline __m256bh _mm512_cvtneps_pbh(__m512 v) {
  const auto x = lanes_in<float>(v);
  return masked<__m256bh>(0xffff, [&x](unsigned i) { return bf16_of(x[i]); });
}
inline __m512bh _mm512_cvtne2ps_pbh(__m512 high, __m512 low) {
  const auto x = lanes_in<float>(low), y = lanes_in<float>(high);
  return masked<__m512bh>(0xffffffff, [&](unsigned i) { return bf16_of(i < 16 ? x[i] : y[i - 16]); });
}
inline __m512 _mm512_dpbf16_ps(__m512 sums, __m512bh a,
                               __m512bh b) {  // of each pair, the second product first
  const auto sum = lanes_in<float>(sums);
  const auto x = lanes_in<std::uint16_t>(a), y = lanes_in<std::uint16_t>(b);
  return masked<__m512>(0xffff, [&](unsigned i) {
    const float one = std::fma(float_of(x[2 * i + 1]), float_of(y[2 * i + 1]), without_denormals(sum[i]));
    return without_denormals(std::fma(float_of(x[2 * i]), float_of(y[2 * i]), without_denormals(one)));
  });
}

#endif

}  // namespace

}  // namespace npu::cpu::NPU_ISA
