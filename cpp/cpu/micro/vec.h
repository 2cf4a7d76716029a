// Vectors of the instruction set that this file is compiled for.
#pragma once

#include <cstdint>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace npu::cpu::NPU_ISA {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float F32 __attribute__((vector_size(kLanes * 4)));
typedef std::int32_t I32 __attribute__((vector_size(kLanes * 4)));
typedef std::uint32_t U32 __attribute__((vector_size(kLanes * 4)));
typedef float LooseF32 __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));

// In an unnamed namespace, so that no object file of another instruction set can use what is compiled here.
namespace {

inline F32 load(const float* p) { return *reinterpret_cast<const LooseF32*>(p); }
inline void store(float* p, F32 v) { *reinterpret_cast<LooseF32*>(p) = v; }
inline F32 all(float x) { return x - F32{}; }
inline I32 bits(F32 v) { return (I32)v; }
inline F32 floats(I32 v) { return (F32)v; }

#if defined(__AVX512F__)
inline __mmask16 first_lanes(std::int64_t n) { return static_cast<__mmask16>((1u << n) - 1u); }
#elif defined(__AVX2__)
inline __m256i first_lanes(std::int64_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)),
                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
#endif

// n < kLanes elements; the other lanes are zero.
inline F32 load_part(const float* p, std::int64_t n) {
#if defined(__AVX512F__)
  return _mm512_maskz_loadu_ps(first_lanes(n), p);
#elif defined(__AVX2__)
  return _mm256_maskload_ps(p, first_lanes(n));
#else
  F32 v = {};
  for (int i = 0; i < n; ++i) v[i] = p[i];
  return v;
#endif
}

inline void store_part(float* p, F32 v, std::int64_t n) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(p, first_lanes(n), v);
#elif defined(__AVX2__)
  _mm256_maskstore_ps(p, first_lanes(n), v);
#else
  for (int i = 0; i < n; ++i) p[i] = v[i];
#endif
}

// Lanes of v by their numbers.
inline F32 lanes_of(F32 v, I32 numbers) {
#if defined(__AVX512F__)
  return _mm512_maskz_permutexvar_ps(0xffff, (__m512i)numbers, v);
#elif defined(__AVX2__)
  return _mm256_permutevar8x32_ps(v, (__m256i)numbers);
#else
  F32 to;
  for (int i = 0; i < kLanes; ++i) to[i] = v[numbers[i]];
  return to;
#endif
}

// int8 as numbers.
inline F32 load_i8(const std::int8_t* p) {
#if defined(__AVX512F__)
  const __m512i wide =
      _mm512_maskz_cvtepi8_epi32(0xffff, _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return _mm512_maskz_cvtepi32_ps(0xffff, wide);
#elif defined(__AVX2__)
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
#else
  typedef std::int8_t I8 __attribute__((vector_size(kLanes)));
  I8 bytes;
  __builtin_memcpy(&bytes, p, sizeof bytes);
  return __builtin_convertvector(bytes, F32);
#endif
}

// n < kLanes elements; the other lanes are zero.
inline F32 load_i8_part(const std::int8_t* p, std::int64_t n) {
  std::int8_t part[kLanes] = {};
  for (std::int64_t j = 0; j < n; ++j) part[j] = p[j];
  return load_i8(part);
}

// y[i] = f(x[i]), and so on; y may be an operand.
template <class F>
inline void each(const float* x, float* y, std::int64_t n, F f) {
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(y + i, f(load(x + i)));
  if (i < n) store_part(y + i, f(load_part(x + i, n - i)), n - i);
}

template <class F>
inline void each(const float* a, const float* b, float* y, std::int64_t n, F f) {
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(y + i, f(load(a + i), load(b + i)));
  if (i < n) store_part(y + i, f(load_part(a + i, n - i), load_part(b + i, n - i)), n - i);
}

template <class F>
inline void each(const float* a, const float* b, const float* c, float* y, std::int64_t n, F f) {
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(y + i, f(load(a + i), load(b + i), load(c + i)));
  if (i < n) {
    const std::int64_t m = n - i;
    store_part(y + i, f(load_part(a + i, m), load_part(b + i, m), load_part(c + i, m)), m);
  }
}

// NaN wins, on either side.
#if defined(__AVX512F__)
inline F32 max_of(F32 a, F32 b) {  // of a NaN the processor takes the second operand
  return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), _mm512_maskz_max_ps(0xffff, a, b), a);
}
inline F32 min_of(F32 a, F32 b) {
  return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), _mm512_maskz_min_ps(0xffff, a, b), a);
}
#elif defined(__AVX2__)
inline F32 max_of(F32 a, F32 b) {  // of a NaN the processor takes the second operand
  return _mm256_blendv_ps(_mm256_max_ps(a, b), a, _mm256_cmp_ps(a, a, _CMP_UNORD_Q));
}
inline F32 min_of(F32 a, F32 b) {
  return _mm256_blendv_ps(_mm256_min_ps(a, b), a, _mm256_cmp_ps(a, a, _CMP_UNORD_Q));
}
#else
inline F32 max_of(F32 a, F32 b) {
  const F32 m = a > b ? a : b;
  return a != a ? a : m;
}
inline F32 min_of(F32 a, F32 b) {
  const F32 m = a < b ? a : b;
  return a != a ? a : m;
}
#endif

// A NaN stays: as the second operand, the instructions return it.
inline F32 within(F32 v, float low, float high) {
#if defined(__AVX512F__)
  return _mm512_maskz_min_ps(0xffff, all(high), _mm512_maskz_max_ps(0xffff, all(low), v));
#elif defined(__AVX2__)
  return _mm256_min_ps(all(high), _mm256_max_ps(all(low), v));
#else
  v = v < low ? all(low) : v;
  return v > high ? all(high) : v;
#endif
}

// The lanes folded into one with f, halves onto halves.
template <class F>
inline float fold_lanes(F32 v, F f) {
#if defined(__AVX512F__)
  v = f(v, __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
  v = f(v, __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11));
  v = f(v, __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13));
  v = f(v, __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14));
#elif defined(__AVX2__)
  v = f(v, __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3));
  v = f(v, __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5));
  v = f(v, __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6));
#else
  v = f(v, __builtin_shufflevector(v, v, 2, 3, 0, 1));
  v = f(v, __builtin_shufflevector(v, v, 1, 0, 3, 2));
#endif
  return v[0];
}

inline double lane_sum(F32 v) {
  return static_cast<double>(fold_lanes(v, [](F32 a, F32 b) { return a + b; }));
}
inline float lane_max(F32 v) { return fold_lanes(v, max_of); }

}  // namespace

}  // namespace npu::cpu::NPU_ISA
