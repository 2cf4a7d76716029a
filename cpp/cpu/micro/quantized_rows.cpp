// Few rows times many quantised ones.
#include <utility>

#include "cpu/micro/quantized.h"
#include "cpu/micro/table.h"

namespace npu::cpu::NPU_ISA {

namespace {

// Sums of products with one block of a quantised row at a time. The scale of a group is a factor of its sum,
// so integers become floats without being scaled; what a group is shifted by is a factor of the sum of x
// there.
template <int bits>
inline constexpr std::int64_t kBlockElements = kLanes * quantized_word(bits);
template <int bits>
inline constexpr std::int64_t kBlockBytes = kBlockElements<bits> * bits / 8;
constexpr std::int64_t kAhead = 4096;  // bytes that are fetched beforehand, after the last column

// A block, of which `bytes` bytes are there, with zeros behind them.
template <int bits>
inline I32 block_at(const std::uint8_t* q, std::int64_t bytes) {
  constexpr std::int64_t kBytes = kBlockBytes<bits>;
#if defined(__AVX512F__)
  if constexpr (kBytes == 48) {
    if (bytes >= kBytes) return (I32)_mm512_maskz_loadu_epi32(0xfff, q);
  }
#elif defined(__AVX2__)
  if constexpr (kBytes == 24) {
    if (bytes >= kBytes) return (I32)_mm256_maskload_epi32(reinterpret_cast<const int*>(q), first_lanes(6));
  }
#endif
  I32 block = {};
  __builtin_memcpy(&block, q, static_cast<std::size_t>(bytes < kBytes ? bytes : kBytes));
  return block;
}

// What scales and offsets are multiples of. The groups of a vector have one unit, or some each.
class Units {
 public:
  explicit Units(const QuantizedGemvCall& call)
      : call_(call), each_(call.offset == Quantization::Offset::kNone ? 1 : 2) {
    if (call.units == nullptr) return;
    all_ = (call.groups + call.unit_groups - 1) / call.unit_groups * each_;
    for (int i = 0; i < kLanes; ++i) numbers_[i] = static_cast<std::int32_t>(i / call.unit_groups * each_);
  }

  void multiply(std::int64_t column, std::int64_t group, F32& scale, F32& by) const {
    const std::int64_t first = group / call_.unit_groups * each_;
    const F32 units =
        typed_at(call_.unit_dtype, call_.units, column * call_.unit_stride + first, all_ - first);
    scale *= lanes_of(units, numbers_);
    if (each_ == 2) by *= lanes_of(units, numbers_ + 1);
  }

 private:
  const QuantizedGemvCall& call_;
  std::int64_t each_, all_ = 0;  // units of a place; of a row
  I32 numbers_ = {};
};

// Leaves the scales of a column in the room, and adds its part of what shifts make of the sums.
template <int bits, int rows>
[[gnu::always_inline]] inline void take_factors(const QuantizedGemvCall& call, const Units& units,
                                                std::int64_t column, float* room, F32 (&totals)[rows]) {
  const float middle = middle_of(bits, call.is_signed);
  const bool has_offsets = call.offset != Quantization::Offset::kNone, shifts = middle != 0 || has_offsets;
  for (std::int64_t g = 0; g < call.groups; g += kLanes) {
    const std::int64_t n = call.groups - g;
    F32 scale = typed_at(call.scale_dtype, call.scales, column * call.scale_stride + g, n), by = {};
    if (has_offsets) by = typed_at(call.offset_dtype, call.offsets, column * call.offset_stride + g, n);
    if (call.units != nullptr) units.multiply(column, g, scale, by);
    const Factors factors = factors_of(call.offset, scale, by, middle);
    store(room + g, factors.scale);
    if (!shifts) continue;
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i)
      totals[i] += factors.shift * load(call.group_sums + i * call.sums_stride + g);
  }
}

// The scales of the words of each block in turn. A group has `lanes` words, or a number of whole blocks where
// that is kLanes.
template <int lanes>
class Scales {
 public:
  Scales() = default;
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

  const float* at_ = nullptr;
  std::int64_t blocks_ = 0, done_ = 0;
};

#if defined(__AVX512F__)
inline std::uint16_t halves_of(int integer) {  // exact
  const auto value = static_cast<float>(integer);
  std::uint32_t word;
  __builtin_memcpy(&word, &value, sizeof word);
  return static_cast<std::uint16_t>(word >> 16);
}

// What integers of 6 bits are, minus the middle, as bfloat16.
class SixesTable {
 public:
  explicit SixesTable(bool is_signed) {
    const Centred centred(6, is_signed);
    alignas(64) std::uint16_t values[64];
    for (int i = 0; i < 64; ++i) values[i] = halves_of(centred(i));
    low_ = _mm512_load_si512(values);
    high_ = _mm512_load_si512(values + 32);
  }

  // Of pairs_of_sixes, the first or the second ones.
  I32 look_up(I32 pairs, bool second) const {
    const __m512i sixes = second ? _mm512_maskz_srli_epi16(0xffffffff, (__m512i)pairs, 6) : (__m512i)pairs;
    return (I32)_mm512_maskz_permutex2var_epi16(0xffffffff, low_, sixes, high_);
  }

 private:
  __m512i low_, high_;
};
#else
struct SixesTable {
  explicit SixesTable(bool) {}
};
#endif

// Integers of a block as floats: the j-th of each word.
template <int bits>
class FloatParts {
 public:
  static constexpr int kParts = quantized_word(bits);
  static constexpr std::int64_t kStride = kBlockElements<bits>;
  // How many columns share what is loaded of x: as registers allow.
  static constexpr int at_once(int rows) {
    return kLanes == 16 ? (rows == 1 ? kQuantizedColumns : 1) : (rows <= 2 ? 2 : 1);
  }
  typedef float Element;

  explicit FloatParts(bool is_signed) : sixes_(is_signed) {
#if defined(__AVX512F__)
    if constexpr (bits == 4) {
      const Centred centred(bits, is_signed);
      for (int i = 0; i < kLanes; ++i) table_[i] = static_cast<float>(centred(i));
    }
#endif
    std::uint32_t flip = 0;
    for (int j = 0; j < kParts && !is_signed; ++j) flip |= 1u << (bits * j + bits - 1);
    flip_ = (I32)(flip - U32{});
  }

  I32 ready(I32 block) const {
#if defined(__AVX512F__)
    if constexpr (bits == 6) return pairs_of_sixes(block);
#endif
    if constexpr (bits == 6) block = triples(block);
    return kLooksUp ? block : block ^ flip_;
  }
  F32 part(I32 words, int j) const {
#if defined(__AVX512F__)
    if constexpr (kLooksUp)
      return _mm512_maskz_permutexvar_ps(0xffff, (__m512i)((U32)words >> (4 * j)), table_);
    if constexpr (bits == 6) {  // each word has its elements 0 and 2, or 1 and 3
      const I32 two = sixes_.look_up(words, j % 2 == 1);
      return floats(j < 2 ? two << 16 : two & -0x10000);
    }
#endif
    return __builtin_convertvector((words << (32 - bits * (j + 1))) >> (32 - bits), F32);
  }

 private:
  static constexpr bool kLooksUp = kLanes == 16 && bits == 4;
  F32 table_ = {};
  I32 flip_;
  SixesTable sixes_;
};

// One block of each column times that of each row of x; totals += scale * sums.
template <int bits, int rows, int columns>
[[gnu::always_inline]] inline void add_block(const FloatParts<bits>& q, const I32 (&words)[columns],
                                             const float* x, std::int64_t x_stride,
                                             const F32 (&scale)[columns], F32 (&totals)[columns][rows]) {
  constexpr int kParts = FloatParts<bits>::kParts;
  if constexpr (rows <= 3) {
    F32 sums[columns][rows];
#pragma GCC unroll 8
    for (int j = 0; j < kParts; ++j) {
      F32 w[columns];
#pragma GCC unroll 4
      for (int c = 0; c < columns; ++c) w[c] = q.part(words[c], j);
#pragma GCC unroll 4
      for (int i = 0; i < rows; ++i) {
        const F32 values = load(x + i * x_stride + j * kLanes);
#pragma GCC unroll 4
        for (int c = 0; c < columns; ++c) sums[c][i] = j == 0 ? values * w[c] : sums[c][i] + values * w[c];
      }
    }
#pragma GCC unroll 4
    for (int c = 0; c < columns; ++c) {
#pragma GCC unroll 4
      for (int i = 0; i < rows; ++i) totals[c][i] += sums[c][i] * scale[c];
    }
  } else {
#pragma GCC unroll 8
    for (int j = 0; j < kParts; ++j) {
#pragma GCC unroll 4
      for (int c = 0; c < columns; ++c) {
        const F32 w = q.part(words[c], j) * scale[c];
#pragma GCC unroll 8
        for (int i = 0; i < rows; ++i) totals[c][i] += load(x + i * x_stride + j * kLanes) * w;
      }
    }
  }
}

#if !defined(__AVX512F__)
// Integers with the middle added, masked where they lie in words, or in halves of them: as floats they are
// too large by a power of two, and x is laid out smaller by that, which is exact but for denormals. What the
// middle adds to the sums of a block stands before it. For one row, as registers allow.
template <int bits>
class MaskedParts {
 public:
  static constexpr int kParts = quantized_word(bits);
  static constexpr std::int64_t kStride = (kParts + 1) * kLanes;
  static constexpr int at_once(int) { return kQuantizedColumns; }
  typedef float Element;

  explicit MaskedParts(bool is_signed) {
    std::uint32_t flip = 0;
    for (int j = 0; j < kParts && is_signed; ++j) flip |= 1u << (bits * j + bits - 1);
    flip_ = (I32)(flip - U32{});
  }
  I32 ready(I32 block) const {
    if constexpr (bits == 6) block = triples(block);
    return block ^ flip_;
  }
  static F32 part(I32 words, int j) {
    const U32 from = j < kTogether ? (U32)words : (U32)words >> 16;
    return __builtin_convertvector((I32)(from & (((1u << bits) - 1) << shift(j))), F32);
  }
  static constexpr float scale(int j) { return 1.0f / static_cast<float>(1 << shift(j)); }
  static constexpr float kMiddle = 1 << (bits - 1);

 private:
  static constexpr int kTogether = bits == 6 ? kParts : kParts / 2;
  static constexpr int shift(int j) { return bits * (j % kTogether); }

  I32 flip_;
};

template <int bits, int rows, int columns>
[[gnu::always_inline]] inline void add_block(const MaskedParts<bits>& q, const I32 (&words)[columns],
                                             const float* x, std::int64_t x_stride,
                                             const F32 (&scale)[columns], F32 (&totals)[columns][rows]) {
  constexpr int kParts = MaskedParts<bits>::kParts;
  F32 sums[columns][rows];
#pragma GCC unroll 4
  for (int i = 0; i < rows; ++i) {
    const F32 middles = load(x + i * x_stride);
#pragma GCC unroll 4
    for (int c = 0; c < columns; ++c) sums[c][i] = middles;
  }
#pragma GCC unroll 8
  for (int j = 0; j < kParts; ++j) {
    F32 w[columns];
#pragma GCC unroll 4
    for (int c = 0; c < columns; ++c) w[c] = q.part(words[c], j);
#pragma GCC unroll 4
    for (int i = 0; i < rows; ++i) {
      const F32 values = load(x + i * x_stride + (j + 1) * kLanes);
#pragma GCC unroll 4
      for (int c = 0; c < columns; ++c) sums[c][i] += values * w[c];
    }
  }
#pragma GCC unroll 4
  for (int c = 0; c < columns; ++c) {
#pragma GCC unroll 4
    for (int i = 0; i < rows; ++i) totals[c][i] += sums[c][i] * scale[c];
  }
}
#endif

#if defined(__AVX512BF16__)
// The same as pairs of bfloat16: a word of 32 bits has two of them for each 4 bits, or for each element of 6.
template <int bits>
class PairParts {
 public:
  static constexpr int kParts = bits == 6 ? 2 : 4;
  static constexpr std::int64_t kStride = kBlockElements<bits>;
  static constexpr int at_once(int rows) { return rows == 1 ? kQuantizedColumns : 2; }
  typedef std::uint16_t Element;

  explicit PairParts(bool is_signed) : sixes_(is_signed) {
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

  static I32 ready(I32 block) {
    if constexpr (bits == 6) return pairs_of_sixes(block);
    return block;
  }
  __m512bh part(I32 words, int j) const {
    if constexpr (bits == 6) return (__m512bh)sixes_.look_up(words, j == 1);
    const auto all_nibbles = (__m512i)words;
    const __m512i nibbles =
        j == 0 ? all_nibbles : _mm512_maskz_srli_epi16(0xffffffff, all_nibbles, static_cast<unsigned>(4 * j));
    return (__m512bh)_mm512_maskz_permutexvar_epi16(0xffffffff, nibbles, j % 2 == 0 ? low_ : high_);
  }
  // Which elements of x: high and low parts of 8 bits are of the same.
  static constexpr int x_part(int j) { return bits == 8 ? j / 2 : j; }

 private:
  __m512i low_, high_;
  SixesTable sixes_;
};

template <int bits, int rows, int columns>
[[gnu::always_inline]] inline void add_block(const PairParts<bits>& q, const I32 (&words)[columns],
                                             const std::uint16_t* x, std::int64_t x_stride,
                                             const F32 (&scale)[columns], F32 (&totals)[columns][rows]) {
  constexpr int kParts = PairParts<bits>::kParts;
  __m512bh w[columns][kParts];
#pragma GCC unroll 4
  for (int c = 0; c < columns; ++c) {
#pragma GCC unroll 4
    for (int j = 0; j < kParts; ++j) w[c][j] = q.part(words[c], j);
  }
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i) {
    F32 sums[columns] = {};
#pragma GCC unroll 4
    for (int j = 0; j < kParts; ++j) {
      const std::uint16_t* const from = x + i * x_stride + PairParts<bits>::x_part(j) * 2 * kLanes;
      const auto values = (__m512bh)_mm512_loadu_si512(from);
#pragma GCC unroll 4
      for (int c = 0; c < columns; ++c) sums[c] = _mm512_dpbf16_ps(sums[c], values, w[c][j]);
    }
#pragma GCC unroll 4
    for (int c = 0; c < columns; ++c) totals[c][i] += sums[c] * scale[c];
  }
}
#endif

// The lanes of each, folded side by side, and then added: what shifts add can be far larger than a result.
inline float sum_apart(F32 a, F32 b) {
#if defined(__AVX512F__)
  F32 v = __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
          __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
  v += __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
  v += __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
  v += __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
#elif defined(__AVX2__)
  F32 v = __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11) +
          __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15);
  v += __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5);
  v += __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6);
#else
  F32 v = __builtin_shufflevector(a, b, 0, 1, 4, 5) + __builtin_shufflevector(a, b, 2, 3, 6, 7);
  v += __builtin_shufflevector(v, v, 1, 0, 3, 2);
#endif
  return v[0] + v[kLanes / 2];
}

// Some columns at a time, which share what is loaded of x. The factors of the next ones are taken before:
// what was just stored would be waited for.
template <template <int> class Parts, int bits, int rows, int lanes, int columns>
class Columns {
 public:
  explicit Columns(const QuantizedGemvCall& call)
      : call_(call),
        units_(call),
        parts_(call.is_signed),
        x_(static_cast<const X*>(call.x)),
        bytes_((call.depth * bits + 7) / 8),
        blocks_of_group_(call.groups == 1 ? 0 : call.group / kBlockElements<bits>),
        room_step_((call.groups + kLanes - 1) / kLanes * kLanes + kLanes) {
    for (int c = 0; c < 2 * columns; ++c) store(call.room + (c + 1) * room_step_ - kLanes, F32{});
  }

  // Columns from `first` on, as many as there are whole sets of.
  std::int64_t run(std::int64_t first) {
    if (first + columns <= call_.columns) take(first);
    for (; first + columns <= call_.columns; first += columns) {
      const int turn = turn_;
      turn_ = 1 - turn_;
      if (first + 2 * columns <= call_.columns) take(first + columns);
      multiply(first, call_.room + turn * columns * room_step_, shifts_[turn]);
    }
    return first;
  }

 private:
  typedef typename Parts<bits>::Element X;
  static constexpr std::int64_t kBytes = kBlockBytes<bits>;

  [[gnu::always_inline]] void take(std::int64_t first) {
#pragma GCC unroll 4
    for (int c = 0; c < columns; ++c) {
      F32(&shifts)[rows] = shifts_[turn_][c];
#pragma GCC unroll 8
      for (int i = 0; i < rows; ++i) shifts[i] = F32{};
      take_factors<bits>(call_, units_, first + c, call_.room + (turn_ * columns + c) * room_step_, shifts);
    }
  }

  [[gnu::always_inline]] void multiply(std::int64_t first, const float* room,
                                       const F32 (&shifts)[columns][rows]) const {
    F32 totals[columns][rows];
#pragma GCC unroll 4
    for (int c = 0; c < columns; ++c) {
#pragma GCC unroll 8
      for (int i = 0; i < rows; ++i) totals[c][i] = F32{};
    }
    const std::uint8_t* const q = call_.q + first * call_.q_stride;
    const std::int64_t whole = bytes_ / kBytes;
    // In the order of memory, and no nearer than the second cache: x fills the first.
    const std::int64_t ahead = (columns - 1) * call_.q_stride + kAhead;
    Scales<lanes> scales[columns];
#pragma GCC unroll 4
    for (int c = 0; c < columns; ++c) scales[c] = Scales<lanes>(room + c * room_step_, blocks_of_group_);
    const auto block = [&](std::int64_t b, std::int64_t bytes) __attribute__((always_inline)) {
      I32 words[columns];
      F32 scale[columns];
#pragma GCC unroll 4
      for (int c = 0; c < columns; ++c) {
        words[c] = parts_.ready(block_at<bits>(q + c * call_.q_stride + b * kBytes, bytes));
        scale[c] = scales[c].next();
      }
      add_block(parts_, words, x_ + b * Parts<bits>::kStride, call_.x_stride, scale, totals);
    };
    for (std::int64_t b = 0; b < whole; ++b) {
#pragma GCC unroll 4
      for (int c = 0; c < columns; ++c) __builtin_prefetch(q + ahead + (columns * b + c) * kBytes, 0, 2);
      block(b, kBytes);
    }
    if (whole * kBytes < bytes_) block(whole, bytes_ - whole * kBytes);
#pragma GCC unroll 4
    for (int c = 0; c < columns; ++c) {
      for (int i = 0; i < rows; ++i) {
        call_.out[i * call_.out_stride + first + c] = sum_apart(totals[c][i], shifts[c][i]);
      }
    }
  }

  const QuantizedGemvCall& call_;
  const Units units_;
  const Parts<bits> parts_;
  const X* x_;
  std::int64_t bytes_, blocks_of_group_, room_step_;
  int turn_ = 0;  // of the two rooms, and what shifts add
  F32 shifts_[2][columns][rows];
};

template <template <int> class Parts, int bits, int rows, int lanes>
void columns_of(const QuantizedGemvCall& call) {
  constexpr int kAtOnce = Parts<bits>::at_once(rows);
  std::int64_t done = 0;
  if constexpr (kAtOnce > 1) done = Columns<Parts, bits, rows, lanes, kAtOnce>(call).run(done);
  Columns<Parts, bits, rows, lanes, 1>(call).run(done);
}

template <template <int> class Parts, int bits, int lanes, int... rows>
void for_rows(const QuantizedGemvCall& call, std::integer_sequence<int, rows...>) {
  static constexpr void (*table[])(const QuantizedGemvCall&) = {columns_of<Parts, bits, rows + 1, lanes>...};
  table[call.rows - 1](call);
}

template <template <int> class Parts, int bits, int most = kGemvRows>
void multiply(const QuantizedGemvCall& call) {
  const std::int64_t lanes = call.groups == 1 ? kLanes : call.group / quantized_word(bits);
  const auto rows = std::make_integer_sequence<int, most>{};
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

#if !defined(__AVX512F__)
template <int bits>
void arrange_masked(const ArrangeCall& call) {
  typedef MaskedParts<bits> Parts;
  arrange<float, kLanes, Parts::kParts>(call);
  constexpr std::int64_t kElements = kBlockElements<bits>;
  auto* const to = static_cast<float*>(call.to);
  for (std::int64_t b = (call.depth + kElements - 1) / kElements - 1; b >= 0; --b) {
    F32 sum = {}, values[Parts::kParts];
    for (int j = 0; j < Parts::kParts; ++j) {
      values[j] = load(to + b * kElements + j * kLanes);
      sum += values[j];
    }
    store(to + b * Parts::kStride, sum * all(-Parts::kMiddle));
    for (int j = 0; j < Parts::kParts; ++j)
      store(to + b * Parts::kStride + (j + 1) * kLanes, values[j] * all(Parts::scale(j)));
  }
}
#endif

// Shifts make much of the error of these sums, so they go on in double after some vectors.
void group_sums(const float* x, std::int64_t depth, std::int64_t group, float* to) {
  constexpr std::int64_t kAtOnce = 16 * kLanes;
  std::int64_t g = 0;
  for (std::int64_t k = 0; k < depth; k += group, ++g) {
    const std::int64_t end = k + group < depth ? k + group : depth;
    double total = 0;
    for (std::int64_t first = k; first < end; first += kAtOnce) {
      const std::int64_t last = first + kAtOnce < end ? first + kAtOnce : end;
      F32 sums = {};
      std::int64_t i = first;
      for (; i + kLanes <= last; i += kLanes) sums += load(x + i);
      if (i < last) sums += load_part(x + i, last - i);
      total += static_cast<double>(fold_lanes(sums, [](F32 a, F32 b) { return a + b; }));
    }
    to[g] = static_cast<float>(total);
  }
  for (; g % kLanes != 0; ++g) to[g] = 0;
}

}  // namespace

void fill_quantized_rows(Micro& micro) {
  micro.fours_f32 = {multiply<FloatParts, 4>, arrange<float, kLanes, 8>};
  micro.sixes_f32 = {multiply<FloatParts, 6>, arrange<float, kLanes, 4>};
  micro.eights_f32 = {multiply<FloatParts, 8>, arrange<float, kLanes, 4>};
#if !defined(__AVX512F__)
  micro.fours_row = {multiply<MaskedParts, 4, 1>, arrange_masked<4>};
  micro.sixes_row = {multiply<MaskedParts, 6, 1>, arrange_masked<6>};
  micro.eights_row = {multiply<MaskedParts, 8, 1>, arrange_masked<8>};
#endif
#if defined(__AVX512BF16__)
  // A word of 16 bits has four elements of 4 bits, or two of 6 or 8.
  micro.fours_pairs = {multiply<PairParts, 4>, arrange<std::uint16_t, 2 * kLanes, 4>};
  micro.sixes_pairs = {multiply<PairParts, 6>, arrange<std::uint16_t, 2 * kLanes, 2>};
  micro.eights_pairs = {multiply<PairParts, 8>, arrange<std::uint16_t, 2 * kLanes, 2>};
#endif
  micro.group_sums = group_sums;
}

}  // namespace npu::cpu::NPU_ISA
