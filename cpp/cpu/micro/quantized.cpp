// Quantised rows as numbers.
#include "cpu/micro/quantized.h"

#include <type_traits>

#include "cpu/micro/table.h"

namespace npu::cpu::NPU_ISA {

namespace {

typedef std::uint8_t U8 __attribute__((vector_size(kLanes)));

// The integers of kLanes neighbours from a whole byte on. Those of 4 bits have others above them.
inline I32 eights_at(const std::uint8_t* q) {
#if defined(__AVX512F__)
  return (I32)_mm512_maskz_cvtepu8_epi32(0xffff, _mm_loadu_si128(reinterpret_cast<const __m128i*>(q)));
#elif defined(__AVX2__)
  return (I32)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(q)));
#else
  U8 bytes;
  __builtin_memcpy(&bytes, q, sizeof bytes);
  return __builtin_convertvector(bytes, I32);
#endif
}

inline I32 fours_at(const std::uint8_t* q) {
  U32 words, shifts;
#if defined(__AVX512F__)
  std::uint32_t halves[2];
  __builtin_memcpy(halves, q, sizeof halves);
  words = (U32)_mm512_mask_set1_epi32(_mm512_set1_epi32(static_cast<int>(halves[0])), 0xff00,
                                      static_cast<int>(halves[1]));
#else
  std::uint32_t word = 0;
  __builtin_memcpy(&word, q, kLanes / 2);
  words = word - U32{};
#endif
  for (unsigned i = 0; i < kLanes; ++i) shifts[i] = i % 8 * 4;
  return (I32)(words >> shifts);
}

inline I32 sixes_at(const std::uint8_t* q) {
  U32 shifts;
  for (unsigned i = 0; i < kLanes; ++i) shifts[i] = i % 4 * 6;
#if defined(__AVX512F__)
  const __m128i twelve = _mm_maskz_loadu_epi32(7, q);
  const I32 from = {0x00020100, 0x00020100, 0x00020100, 0x00020100, 0x00050403, 0x00050403,
                    0x00050403, 0x00050403, 0x00080706, 0x00080706, 0x00080706, 0x00080706,
                    0x000b0a09, 0x000b0a09, 0x000b0a09, 0x000b0a09};
  const auto words = (U32)_mm512_maskz_shuffle_epi8(
      ~__mmask64{0}, _mm512_maskz_broadcast_i32x4(0xffff, twelve), (__m512i)from);
#else
  U32 words;
  for (int i = 0; i < kLanes; i += 4) {
    std::uint32_t word = 0;
    __builtin_memcpy(&word, q + i / 4 * 3, 3);
    for (int j = 0; j < 4; ++j) words[i + j] = word;
  }
#endif
  return (I32)(words >> shifts & 63u);
}

// One that may begin anywhere.
inline std::int32_t integer_at(const std::uint8_t* q, std::int64_t bit, int bits) {
  const std::int64_t byte = bit / 8, first = bit % 8;
  unsigned word = q[byte];
  if (first + bits > 8) word |= static_cast<unsigned>(q[byte + 1]) << 8;
  return static_cast<std::int32_t>((word >> first) & ((1u << bits) - 1u));
}

inline void put(float* to, F32 v) { store(to, v); }
inline void put(std::uint16_t* to, F32 v) { store16(to, to_bf16(v)); }
inline void put_part(float* to, F32 v, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) to[i] = v[i];
}
inline void put_part(std::uint16_t* to, F32 v, std::int64_t n) {
  const U16 halves = to_bf16(v);
  for (std::int64_t i = 0; i < n; ++i) to[i] = halves[i];
}

// What integers of 4 bits are, minus the middle.
struct FoursTable {
  F32 of = {};
  explicit FoursTable([[maybe_unused]] const Centred& centred) {
#if defined(__AVX512F__)
    for (int i = 0; i < kLanes; ++i) of[i] = static_cast<float>(centred(i));
#endif
  }
  F32 look_up(I32 fours, [[maybe_unused]] const Centred& centred) const {
#if defined(__AVX512F__)
    return _mm512_maskz_permutexvar_ps(0xffff, (__m512i)fours, of);
#else
    return __builtin_convertvector(centred(fours & 15), F32);
#endif
  }
};

#if defined(__AVX512BF16__)
// Two vectors at once, as long as there are whole ones; returns how many elements that were. Denormals become
// 0, as they do where such pairs are multiplied.
inline std::int64_t dequantize_pairs(const DequantizeCall& call, const Centred& centred,
                                     const FoursTable& table, std::int64_t bit, std::int64_t n, float scale,
                                     float shift, std::uint16_t* to) {
  const F32 scales = all(scale), shifts = all(shift);
  const std::uint8_t* const q = call.q + bit / 8;
  std::int64_t i = 0;
  if (call.bits == 8) {
    const __m128i flips = _mm_set1_epi8(static_cast<char>(centred.middle - centred.flip));
    // An unsigned integer, minus the middle, is a signed one.
    const auto number = [&](const std::uint8_t* at) {
      const __m128i bytes = _mm_xor_si128(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)), flips);
      return __builtin_convertvector((I32)_mm512_maskz_cvtepi8_epi32(0xffff, bytes), F32) * scales + shifts;
    };
    for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
      const F32 low = number(q + i), high = number(q + i + kLanes);
      _mm512_storeu_si512(to + i, (__m512i)_mm512_cvtne2ps_pbh(high, low));
    }
  } else if (call.bits == 6 && bit % 8 == 0) {
    for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
      const std::uint8_t* const at = q + i / 4 * 3;
      const F32 low = __builtin_convertvector(centred(sixes_at(at)), F32) * scales + shifts;
      const F32 high = __builtin_convertvector(centred(sixes_at(at + 12)), F32) * scales + shifts;
      _mm512_storeu_si512(to + i, (__m512i)_mm512_cvtne2ps_pbh(high, low));
    }
  } else if (call.bits == 4 && bit % 8 == 0) {
    // All numbers that there are, twice: bit 4 of what is looked up does not matter.
    const auto numbers = (__m256i)_mm512_cvtneps_pbh(table.of * scales + shifts);
    const __m512i twice = _mm512_maskz_broadcast_i64x4(0xff, numbers);
    for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
      const auto bytes = (U32)eights_at(q + i / 2);
      const auto fours = (__m512i)(bytes | bytes << 12);
      _mm512_storeu_si512(to + i, _mm512_maskz_permutexvar_epi16(0xffffffff, fours, twice));
    }
  }
  return i;
}
#endif

// n elements of one group.
template <class T>
inline void dequantize_run(const DequantizeCall& call, const Centred& centred, const FoursTable& table,
                           std::int64_t bit, std::int64_t n, float scale, float shift, T* to) {
  const auto number = [&](I32 x) {
    return __builtin_convertvector(centred(x), F32) * all(scale) + all(shift);
  };
  std::int64_t i = 0;
#if defined(__AVX512BF16__)
  if constexpr (std::is_same_v<T, std::uint16_t>)
    i = dequantize_pairs(call, centred, table, bit, n, scale, shift, to);
#endif
  if (bit % 8 == 0 && call.bits == 4) {
    for (; i + kLanes <= n; i += kLanes) {
      const I32 fours = fours_at(call.q + (bit + 4 * i) / 8);
      put(to + i, table.look_up(fours, centred) * all(scale) + all(shift));
    }
  } else if (bit % 8 == 0 && call.bits == 6) {
    for (; i + kLanes <= n; i += kLanes) put(to + i, number(sixes_at(call.q + bit / 8 + i / 4 * 3)));
  } else if (call.bits == 8) {
    for (; i + kLanes <= n; i += kLanes) put(to + i, number(eights_at(call.q + bit / 8 + i)));
  }
  for (; i < n; i += kLanes) {
    const std::int64_t some = n - i < kLanes ? n - i : kLanes;
    I32 x = {};
    for (std::int64_t j = 0; j < some; ++j) x[j] = integer_at(call.q, bit + (i + j) * call.bits, call.bits);
    put_part(to + i, number(x), some);
  }
}

inline F32 load_part_or_all(const float* x, std::int64_t n) {
  return n >= kLanes ? load(x) : load_part(x, n);
}

// The units of each group: of scales, and of offsets.
void repeat_units(const DequantizeCall& call, std::int64_t groups, float* scales, float* offsets) {
  const bool has_offsets = call.offset != Quantization::Offset::kNone;
  const std::int64_t each = has_offsets ? 2 : 1;
  std::int64_t end = call.unit_left;
  for (std::int64_t g = 0, at = 0; g < groups; at += each, end += call.unit_groups) {
    const F32 unit = typed_at(call.unit_dtype, call.units, at, each);
    for (; g < end && g < groups; ++g) scales[g] = unit[0], offsets[g] = unit[has_offsets ? 1 : 0];
  }
}

template <class T>
void dequantize(const DequantizeCall& call, T* to) {
  const Centred centred(call.bits, call.is_signed);
  const FoursTable table(centred);
  float scales[kDequantized + kLanes], shifts[kDequantized + kLanes];
  const std::int64_t groups =
      call.n <= call.left ? 1 : 1 + (call.n - call.left + call.group - 1) / call.group;
  const bool has_offsets = call.offset != Quantization::Offset::kNone;
  float scale_units[kDequantized + kLanes], offset_units[kDequantized + kLanes];
  if (call.units != nullptr) repeat_units(call, groups, scale_units, offset_units);
  for (std::int64_t at = 0; at < groups; at += kLanes) {
    F32 scale = typed_at(call.scale_dtype, call.scales, at, groups - at), by = {};
    if (has_offsets) by = typed_at(call.offset_dtype, call.offsets, at, groups - at);
    if (call.units != nullptr) {
      scale *= load_part_or_all(scale_units + at, groups - at);
      by *= load_part_or_all(offset_units + at, groups - at);
    }
    const Factors factors = factors_of(call.offset, scale, by, middle_of(call.bits, call.is_signed));
    store(scales + at, factors.scale);
    store(shifts + at, factors.shift);
  }
  std::int64_t end = call.left, g = 0;
  for (std::int64_t i = 0; i < call.n; i = end, end += call.group, ++g) {
    const std::int64_t n = (end < call.n ? end : call.n) - i;
    dequantize_run(call, centred, table, call.bit + i * call.bits, n, scales[g], shifts[g], to + i);
  }
}

}  // namespace

void fill_quantized(Micro& micro) {
  micro.dequantize_f32 = dequantize<float>;
  micro.dequantize_bf16 = dequantize<std::uint16_t>;
}

}  // namespace npu::cpu::NPU_ISA
