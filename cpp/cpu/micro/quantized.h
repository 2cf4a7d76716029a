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

// Of integers of 6 bits in the first three quarters of a vector, four as the low 24 bits of each word. The bits
// above them are anything.
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

inline F32 typed_at(DType dtype, const void* from, std::int64_t at, std::int64_t n) {
  if (dtype == DType::kFloat32) {
    const float* const x = static_cast<const float*>(from) + at;
    return n >= kLanes ? load(x) : load_part(x, n);
  }
  const std::uint16_t* const x = static_cast<const std::uint16_t*>(from) + at;
  const U16 halves = n >= kLanes ? load16(x) : load16_part(x, n);
  return dtype == DType::kFloat16 ? from_f16(halves) : from_bf16(halves);
}

// What the numbers of kLanes groups, or of the first n of them, are: scale * (integer - middle) + shift.
struct Factors {
  F32 scale, shift;
};
inline Factors factors_at(Quantization::Offset offset, DType scale_dtype, const void* scales,
                          std::int64_t scale_at, DType offset_dtype, const void* offsets,
                          std::int64_t offset_at, float middle, std::int64_t n) {
  const F32 scale = typed_at(scale_dtype, scales, scale_at, n);
  if (offset == Quantization::Offset::kNone) return {scale, scale * middle};
  const F32 by = typed_at(offset_dtype, offsets, offset_at, n);
  return {scale, offset == Quantization::Offset::kBias ? scale * middle + by : scale * (middle - by)};
}
inline float middle_of(int bits, bool is_signed) {
  return is_signed ? 0.0f : static_cast<float>(1 << (bits - 1));
}

}  // namespace

}  // namespace npu::cpu::NPU_ISA
