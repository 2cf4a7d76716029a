// Vectors of 16-bit floats, and what they are as float32. Stores round to nearest even and keep NaN.
#pragma once

#include "cpu/micro/vec.h"

#if defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace npu::cpu::NPU_ISA {

namespace {

typedef std::uint16_t U16 __attribute__((vector_size(kLanes * 2)));
typedef std::uint16_t LooseU16 __attribute__((vector_size(kLanes * 2), aligned(2), may_alias));

inline U16 load16(const std::uint16_t* p) { return *reinterpret_cast<const LooseU16*>(p); }
inline void store16(std::uint16_t* p, U16 v) { *reinterpret_cast<LooseU16*>(p) = v; }

// __builtin_convertvector would take these apart into halves.
#if defined(__AVX512F__)
inline U32 widened(U16 h) { return (U32)_mm512_maskz_cvtepu16_epi32(0xffff, (__m256i)h); }
inline U16 narrowed(U32 u) { return (U16)_mm512_maskz_cvtepi32_epi16(0xffff, (__m512i)u); }
#elif defined(__AVX2__)
inline U32 widened(U16 h) { return (U32)_mm256_cvtepu16_epi32((__m128i)h); }
inline U16 narrowed(U32 u) { return __builtin_convertvector(u, U16); }
#else
inline U32 widened(U16 h) { return __builtin_convertvector(h, U32); }
inline U16 narrowed(U32 u) { return __builtin_convertvector(u, U16); }
#endif

inline F32 from_bf16(U16 h) { return floats((I32)(widened(h) << 16)); }

inline U16 to_bf16_by_bits(F32 v) {
  const U32 u = (U32)bits(v), rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  return narrowed(v != v ? (u >> 16) | 0x40u : rounded);
}

#if defined(__AVX512BF16__)
inline U16 to_bf16(F32 v) {
  constexpr int kDenormal = 0x20;  // the instruction would round them to 0
  if (_mm512_fpclass_ps_mask(v, kDenormal)) return to_bf16_by_bits(v);
  return (U16)_mm512_cvtneps_pbh(v);
}
#else
inline U16 to_bf16(F32 v) { return to_bf16_by_bits(v); }
#endif

#if defined(__AVX512F__)
inline F32 from_f16(U16 h) { return _mm512_maskz_cvtph_ps(0xffff, (__m256i)h); }
inline U16 to_f16(F32 v) { return (U16)_mm512_maskz_cvtps_ph(0xffff, v, _MM_FROUND_TO_NEAREST_INT); }
#elif defined(__AVX2__)
inline F32 from_f16(U16 h) { return _mm256_cvtph_ps((__m128i)h); }
inline U16 to_f16(F32 v) { return (U16)_mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT); }
#elif defined(__aarch64__)
inline F32 from_f16(U16 h) { return (F32)vcvt_f32_f16((float16x4_t)h); }
inline U16 to_f16(F32 v) { return (U16)vcvt_f16_f32((float32x4_t)v); }
#else
inline F32 from_f16(U16 h) {
  const U32 u = __builtin_convertvector(h, U32), sign = (u & 0x8000u) << 16, a = u & 0x7fffu;
  const U32 special = 0x7f800000u | (a & 0x3ffu) << 13, normal = (a << 13) + 0x38000000u;
  const U32 denormal = (U32)bits(__builtin_convertvector((I32)a, F32) * 0x1p-24f);
  return floats((I32)(sign | (a >= 0x7c00u ? special : a >= 0x400u ? normal : denormal)));
}

inline U16 to_f16(F32 v) {
  const U32 u = (U32)bits(v), sign = (u >> 16) & 0x8000u, a = u & 0x7fffffffu;
  const U32 nan = 0x7e00u | ((a >> 13) & 0x3ffu), infinite = U32{} + 0x7c00u;
  const U32 denormal =
      (U32)bits(floats((I32)a) + 0.5f) - 0x3f000000u;  // the addition rounds at the right bit
  const U32 normal = (a - 0x38000000u + 0xfffu + ((a >> 13) & 1u)) >> 13;
  const U32 finite = a < 0x38800000u ? denormal : normal;
  return __builtin_convertvector(sign | (a > 0x7f800000u ? nan : a >= 0x477ff000u ? infinite : finite), U16);
}
#endif

// n < kLanes elements; the others are zero.
inline U16 load16_part(const std::uint16_t* p, std::int64_t n) {
#if defined(__AVX512BW__) && defined(__AVX512VL__)
  return (U16)_mm256_maskz_loadu_epi16(first_lanes(n), p);
#else
  U16 part = {};
  for (std::int64_t j = 0; j < n; ++j) part[j] = p[j];
  return part;
#endif
}

}  // namespace

}  // namespace npu::cpu::NPU_ISA
