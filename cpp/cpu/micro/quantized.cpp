// Quantised rows as numbers, and few rows times many of them.
#include <utility>

#include "cpu/micro/half.h"
#include "cpu/micro/table.h"

namespace npu::cpu::NPU_ISA {

namespace {

typedef std::uint8_t U8 __attribute__((vector_size(kLanes)));

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

// The integers of kLanes neighbours from a whole byte on. Those of 4 bits have others above them.
inline I32 eights_at(const std::uint8_t* q) {
  U8 bytes;
  __builtin_memcpy(&bytes, q, sizeof bytes);
  return __builtin_convertvector(bytes, I32);
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

// n elements of one group.
template <class T>
inline void dequantize_run(const DequantizeCall& call, const Centred& centred, const FoursTable& table,
                           std::int64_t bit, std::int64_t n, float scale, float shift, T* to) {
  const auto number = [&](I32 x) {
    return __builtin_convertvector(centred(x), F32) * all(scale) + all(shift);
  };
  std::int64_t i = 0;
  if (bit % 8 == 0 && call.bits == 4) {
    for (; i + kLanes <= n; i += kLanes) {
      const I32 fours = fours_at(call.q + (bit + 4 * i) / 8);
      put(to + i, table.look_up(fours, centred) * all(scale) + all(shift));
    }
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

template <class T>
void dequantize(const DequantizeCall& call, T* to) {
  const Centred centred(call.bits, call.is_signed);
  const FoursTable table(centred);
  std::int64_t end = call.left, g = 0;
  for (std::int64_t i = 0; i < call.n; i = end, end += call.group, ++g) {
    const std::int64_t n = (end < call.n ? end : call.n) - i;
    dequantize_run(call, centred, table, call.bit + i * call.bits, n, call.scales[g], call.shifts[g], to + i);
  }
}

// Few rows times quantised ones.

// Sums of products with one block of a quantised row at a time. The scale of a group is a factor of its sum,
// so integers become floats without being scaled; what a group is shifted by is a factor of the sum of x
// there.
constexpr std::int64_t kBlockBytes = kLanes * 4;
constexpr std::int64_t kAhead = 4096;  // bytes that are fetched beforehand

inline I32 words_at(const std::uint8_t* q, std::int64_t bytes) {
  I32 words = {};
  if (bytes >= kBlockBytes) {
    __builtin_memcpy(&words, q, sizeof words);
  } else {
    __builtin_memcpy(&words, q, static_cast<std::size_t>(bytes));
  }
  return words;
}

inline F32 typed_at(DType dtype, const void* from, std::int64_t at, std::int64_t n) {
  if (dtype == DType::kFloat32) {
    const float* const x = static_cast<const float*>(from) + at;
    return n >= kLanes ? load(x) : load_part(x, n);
  }
  const std::uint16_t* const x = static_cast<const std::uint16_t*>(from) + at;
  const U16 halves = n >= kLanes ? load16(x) : load16_part(x, n);
  return dtype == DType::kFloat16 ? from_f16(halves) : from_bf16(halves);
}

// Leaves the scales of a column in the room, and returns its part of the sums that shifts make.
template <int bits, int rows>
inline void take_factors(const QuantizedGemvCall& call, std::int64_t column, F32 (&totals)[rows]) {
  const float middle = call.is_signed ? 0.0f : static_cast<float>(1 << (bits - 1));
  const bool shifts = middle != 0 || call.offset != Quantization::Offset::kNone;
  for (std::int64_t g = 0; g < call.groups; g += kLanes) {
    const std::int64_t n = call.groups - g;
    const F32 scale = typed_at(call.scale_dtype, call.scales, column * call.scale_stride + g, n);
    store(call.room + g, scale);
    if (!shifts) continue;
    F32 shift = scale * middle;
    if (call.offset != Quantization::Offset::kNone) {
      const F32 offset = typed_at(call.offset_dtype, call.offsets, column * call.offset_stride + g, n);
      shift = call.offset == Quantization::Offset::kBias ? shift + offset : scale * (middle - offset);
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i) totals[i] += shift * load(call.group_sums + i * call.sums_stride + g);
  }
}

// The scales of the words of each block in turn. A group has `lanes` words, or a number of whole blocks where
// that is kLanes.
template <int lanes>
class Scales {
 public:
  Scales(const float* room, std::int64_t blocks) : at_(room), blocks_(blocks) {}
  F32 next() {
    if constexpr (lanes < kLanes) {
      const F32 scale = spread(load(at_));
      at_ += kLanes / lanes;
      return scale;
    } else {
      const F32 scale = all(*at_);
      if (++done_ == blocks_) ++at_, done_ = 0;
      return scale;
    }
  }

 private:
  static F32 spread(F32 v) {
#if defined(__AVX512F__)
    if constexpr (lanes == 4)
      return __builtin_shufflevector(v, v, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    return __builtin_shufflevector(v, v, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
#elif defined(__AVX2__)
    return __builtin_shufflevector(v, v, 0, 0, 0, 0, 1, 1, 1, 1);
#else
    return v;
#endif
  }

  const float* at_;
  std::int64_t blocks_, done_ = 0;
};

// Integers of a block as floats: the j-th of each word.
template <int bits>
class FloatParts {
 public:
  static constexpr int kParts = 32 / bits;
  typedef float Element;

  explicit FloatParts(bool is_signed) {
    const Centred centred(bits, is_signed);
#if defined(__AVX512F__)
    if constexpr (bits == 4) {
      for (int i = 0; i < kLanes; ++i) table_[i] = static_cast<float>(centred(i));
    }
#endif
    std::uint32_t flip = 0;
    for (int j = 0; j < kParts && !is_signed; ++j) flip |= 1u << (bits * j + bits - 1);
    flip_ = (I32)(flip - U32{});
  }

  void take(I32 words) { words_ = looks_up() ? words : words ^ flip_; }
  F32 part(int j) const {
#if defined(__AVX512F__)
    if constexpr (bits == 4)
      return _mm512_maskz_permutexvar_ps(0xffff, (__m512i)((U32)words_ >> (4 * j)), table_);
#endif
    return __builtin_convertvector((words_ << (32 - bits * (j + 1))) >> (32 - bits), F32);
  }

 private:
  static constexpr bool looks_up() { return kLanes == 16 && bits == 4; }
  F32 table_ = {};
  I32 words_ = {}, flip_;
};

// One block times that of each row of x; totals += scale * sums.
template <int bits, int rows>
inline void add_block(const FloatParts<bits>& q, const float* x, std::int64_t x_stride, F32 scale,
                      F32 (&totals)[rows]) {
  constexpr int kParts = FloatParts<bits>::kParts;
  if constexpr (rows <= 3) {
    F32 sums[rows];
#pragma GCC unroll 8
    for (int j = 0; j < kParts; ++j) {
      const F32 w = q.part(j);
#pragma GCC unroll 4
      for (int i = 0; i < rows; ++i) {
        const F32 values = load(x + i * x_stride + j * kLanes);
        sums[i] = j == 0 ? values * w : sums[i] + values * w;
      }
    }
#pragma GCC unroll 4
    for (int i = 0; i < rows; ++i) totals[i] += sums[i] * scale;
  } else {
#pragma GCC unroll 8
    for (int j = 0; j < kParts; ++j) {
      const F32 w = q.part(j) * scale;
#pragma GCC unroll 8
      for (int i = 0; i < rows; ++i) totals[i] += load(x + i * x_stride + j * kLanes) * w;
    }
  }
}

#if defined(__AVX512BF16__)
// The same as pairs of bfloat16: a word of 32 bits has two of them for each 4 bits.
template <int bits>
class PairParts {
 public:
  static constexpr int kParts = 4;
  typedef std::uint16_t Element;

  explicit PairParts(bool is_signed) {
    const Centred centred(bits, is_signed);
    alignas(64) std::uint16_t low[32], high[32];
    for (int i = 0; i < 32; ++i) {
      const int nibble = i % 16;
      low[i] = halves_of(bits == 4 ? centred(nibble) : nibble);
      high[i] = bits == 4 ? low[i] : halves_of(centred(16 * nibble));
    }
    low_ = _mm512_load_si512(low);
    high_ = _mm512_load_si512(high);
  }

  void take(I32 words) { words_ = (__m512i)words; }
  __m512bh part(int j) const {
    const __m512i nibbles =
        j == 0 ? words_ : _mm512_maskz_srli_epi16(0xffffffff, words_, static_cast<unsigned>(4 * j));
    return (__m512bh)_mm512_maskz_permutexvar_epi16(0xffffffff, nibbles, j % 2 == 0 ? low_ : high_);
  }
  // Which elements of x: high and low parts of 8 bits are of the same.
  static constexpr int x_part(int j) { return bits == 4 ? j : j / 2; }

 private:
  static std::uint16_t halves_of(int integer) {  // exact
    const auto value = static_cast<float>(integer);
    std::uint32_t word;
    __builtin_memcpy(&word, &value, sizeof word);
    return static_cast<std::uint16_t>(word >> 16);
  }
  __m512i low_, high_, words_;
};

template <int bits, int rows>
inline void add_block(const PairParts<bits>& q, const std::uint16_t* x, std::int64_t x_stride, F32 scale,
                      F32 (&totals)[rows]) {
  __m512bh w[4];
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) w[j] = q.part(j);
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i) {
    F32 sums = {};
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const std::uint16_t* const from = x + i * x_stride + PairParts<bits>::x_part(j) * 2 * kLanes;
      sums = _mm512_dpbf16_ps(sums, (__m512bh)_mm512_loadu_si512(from), w[j]);
    }
    totals[i] += sums * scale;
  }
}
#endif

template <template <int> class Parts, int bits, int rows, int lanes>
void columns_of(const QuantizedGemvCall& call) {
  typedef typename Parts<bits>::Element X;
  constexpr std::int64_t kElements = kBlockBytes * 8 / bits;  // of a block
  Parts<bits> parts(call.is_signed);
  const auto* const x = static_cast<const X*>(call.x);
  const std::int64_t bytes = (call.depth * bits + 7) / 8, whole = bytes / kBlockBytes;
  const std::int64_t blocks = call.groups == 1 ? 0 : call.group / kElements;  // of a group
  store(call.room + (call.groups + kLanes - 1) / kLanes * kLanes, F32{});
  for (std::int64_t j = 0; j < call.columns; ++j) {
    const std::uint8_t* const q = call.q + j * call.q_stride;
    F32 totals[rows] = {};
    take_factors<bits>(call, j, totals);
    Scales<lanes> scales(call.room, blocks);
    for (std::int64_t b = 0; b < whole; ++b) {
      __builtin_prefetch(q + b * kBlockBytes + kAhead, 0, 0);
      parts.take(words_at(q + b * kBlockBytes, kBlockBytes));
      add_block(parts, x + b * kElements, call.x_stride, scales.next(), totals);
    }
    if (whole * kBlockBytes < bytes) {
      parts.take(words_at(q + whole * kBlockBytes, bytes - whole * kBlockBytes));
      add_block(parts, x + whole * kElements, call.x_stride, scales.next(), totals);
    }
    for (int i = 0; i < rows; ++i)
      call.out[i * call.out_stride + j] = fold_lanes(totals[i], [](F32 a, F32 b) { return a + b; });
  }
}

template <template <int> class Parts, int bits, int lanes, int... rows>
void for_rows(const QuantizedGemvCall& call, std::integer_sequence<int, rows...>) {
  static constexpr void (*table[])(const QuantizedGemvCall&) = {columns_of<Parts, bits, rows + 1, lanes>...};
  table[call.rows - 1](call);
}

template <template <int> class Parts, int bits>
void multiply(const QuantizedGemvCall& call) {
  const std::int64_t lanes = call.groups == 1 ? kLanes : call.group * bits / 32;
  const auto rows = std::make_integer_sequence<int, kGemvRows>{};
  if (kLanes > 4 && lanes == 4) return for_rows<Parts, bits, kLanes == 4 ? kLanes : 4>(call, rows);
  if (kLanes > 8 && lanes == 8) return for_rows<Parts, bits, kLanes == 16 ? 8 : kLanes>(call, rows);
  for_rows<Parts, bits, kLanes>(call, rows);
}

// Blocks of words with `many` elements each, the first ones of all words before the second ones.
template <class X, int words, int many>
void arrange(const ArrangeCall& call) {
  constexpr std::int64_t kElements = words * many;
  const auto* const x = static_cast<const X*>(call.x);
  auto* to = static_cast<X*>(call.to);
  std::int64_t k = 0;
  for (; k + kElements <= call.depth; k += kElements) {
    for (int j = 0; j < many; ++j) {
      for (int i = 0; i < words; ++i) *to++ = x[k + i * many + j];
    }
  }
  if (k == call.depth) return;
  for (int j = 0; j < many; ++j) {
    for (int i = 0; i < words; ++i) {
      const std::int64_t at = k + i * many + j;
      *to++ = at < call.depth ? x[at] : X{};
    }
  }
}

void group_sums(const float* x, std::int64_t depth, std::int64_t group, float* to) {
  std::int64_t g = 0;
  for (std::int64_t k = 0; k < depth; k += group, ++g) {
    const std::int64_t n = k + group < depth ? group : depth - k;
    F32 sums = {};
    std::int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) sums += load(x + k + i);
    if (i < n) sums += load_part(x + k + i, n - i);
    to[g] = fold_lanes(sums, [](F32 a, F32 b) { return a + b; });
  }
  for (; g % kLanes != 0; ++g) to[g] = 0;
}

}  // namespace

void fill_quantized(Micro& micro) {
  micro.dequantize_f32 = dequantize<float>;
  micro.dequantize_bf16 = dequantize<std::uint16_t>;
  micro.fours_f32 = {multiply<FloatParts, 4>, arrange<float, kLanes, 8>};
  micro.eights_f32 = {multiply<FloatParts, 8>, arrange<float, kLanes, 4>};
#if defined(__AVX512BF16__)
  // A word of 16 bits has four elements of 4 bits, or two of 8.
  micro.fours_pairs = {multiply<PairParts, 4>, arrange<std::uint16_t, 2 * kLanes, 4>};
  micro.eights_pairs = {multiply<PairParts, 8>, arrange<std::uint16_t, 2 * kLanes, 2>};
#endif
  micro.group_sums = group_sums;
}

}  // namespace npu::cpu::NPU_ISA
