// What integers of quantised rows are, and the scales and offsets of their groups.
#pragma once

#include "cpu/micro.h"
#include "cpu/micro/half.h"

namespace npu::cpu::NPU_ISA {

namespace {

// What an integer of `bits` bits is, minus the middle: two's complement is the unsigned integer with its
// highest bit flipped, minus the middle.
struct Centred {
  std::int32_t flip, middle;
  Centred(int bits, bool is_signed) : flip(is_signed ? 1 << (bits - 1) : 0), middle(1 << (bits - 1)) {}
  template <class I>
  I operator()(I x) const {
    return (x ^ flip) - middle;
  }
};

// Of integers of 6 bits in the first three quarters of a vector, four as the low 24 bits of each word. The
// bits above them are anything.
inline I32 triples(I32 packed) {
#if defined(__AVX512F__)
  const I32 from = {0, 1, 2, 2, 3, 4, 5, 5, 6, 7, 8, 8, 9, 10, 11, 11};
  const __m512i twelves = _mm512_maskz_permutexvar_epi32(0xffff, (__m512i)from, (__m512i)packed);
  const __m128i bytes = _mm_setr_epi8(0, 1, 2, 2, 3, 4, 5, 5, 6, 7, 8, 8, 9, 10, 11, 11);
  return (I32)_mm512_maskz_shuffle_epi8(~__mmask64{0}, twelves, _mm512_maskz_broadcast_i32x4(0xffff, bytes));
#elif defined(__AVX2__)
  const I32 from = {0, 1, 2, 2, 3, 4, 5, 5};
  const __m256i twelves = _mm256_permutevar8x32_epi32((__m256i)packed, (__m256i)from);
  const __m128i bytes = _mm_setr_epi8(0, 1, 2, 2, 3, 4, 5, 5, 6, 7, 8, 8, 9, 10, 11, 11);
  return (I32)_mm256_shuffle_epi8(twelves, _mm256_broadcastsi128_si256(bytes));
#else
  std::uint8_t bytes[sizeof packed];
  __builtin_memcpy(bytes, &packed, sizeof packed);
  U32 words;
  for (int i = 0; i < kLanes; ++i) {
    std::uint32_t word;
    __builtin_memcpy(&word, bytes + 3 * i, sizeof word);
    words[i] = word;
  }
  return (I32)words;
#endif
}

#if defined(__AVX512F__)
// Two as the low 12 bits of each 16.
inline I32 pairs_of_sixes(I32 packed) {
  const I32 from = {0, 1, 2, 2, 3, 4, 5, 5, 6, 7, 8, 8, 9, 10, 11, 11};
  const __m512i twelves = _mm512_maskz_permutexvar_epi32(0xffff, (__m512i)from, (__m512i)packed);
  const __m128i bytes = _mm_setr_epi8(0, 1, 1, 2, 3, 4, 4, 5, 6, 7, 7, 8, 9, 10, 10, 11);
  const __m512i words =
      _mm512_maskz_shuffle_epi8(~__mmask64{0}, twelves, _mm512_maskz_broadcast_i32x4(0xffff, bytes));
  return (I32)_mm512_maskz_srlv_epi16(0xffffffff, words, _mm512_set1_epi32(4 << 16));
}
#endif

inline F32 int8_at(const std::int8_t* x, std::int64_t n) {
#if defined(__AVX512F__)
  const __m128i bytes = n >= kLanes ? _mm_loadu_si128(reinterpret_cast<const __m128i*>(x))
                                    : _mm_maskz_loadu_epi8(first_lanes(n), x);
  return __builtin_convertvector((I32)_mm512_maskz_cvtepi8_epi32(0xffff, bytes), F32);
#else
  std::int64_t bytes = 0;
  __builtin_memcpy(&bytes, x, static_cast<std::size_t>(n < kLanes ? n : kLanes));
#if defined(__AVX2__)
  return __builtin_convertvector((I32)_mm256_cvtepi8_epi32(_mm_cvtsi64_si128(bytes)), F32);
#else
  F32 v;
  for (int i = 0; i < kLanes; ++i) v[i] = static_cast<float>(static_cast<std::int8_t>(bytes >> (8 * i)));
  return v;
#endif
#endif
}

inline F32 typed_at(DType dtype, const void* from, std::int64_t at, std::int64_t n) {
  if (dtype == DType::kFloat32) {
    const float* const x = static_cast<const float*>(from) + at;
    return n >= kLanes ? load(x) : load_part(x, n);
  }
  if (dtype == DType::kInt8) return int8_at(static_cast<const std::int8_t*>(from) + at, n);
  const std::uint16_t* const x = static_cast<const std::uint16_t*>(from) + at;
  const U16 halves = n >= kLanes ? load16(x) : load16_part(x, n);
  return dtype == DType::kFloat16 ? from_f16(halves) : from_bf16(halves);
}

// What the numbers of kLanes groups, or of the first n of them, are: scale * (integer - middle) + shift.
struct Factors {
  F32 scale, shift;
};
inline Factors factors_of(Quantization::Offset offset, F32 scale, F32 by, float middle) {
  if (offset == Quantization::Offset::kNone) return {scale, scale * middle};
  return {scale, offset == Quantization::Offset::kBias ? scale * middle + by : scale * (middle - by)};
}
inline float middle_of(int bits, bool is_signed) {
  return is_signed ? 0.0f : static_cast<float>(1 << (bits - 1));
}

}  // namespace

}  // namespace npu::cpu::NPU_ISA
