// Rows laid across, as panels of products want them.
#include "cpu/micro/half.h"
#include "cpu/micro/table.h"

namespace npu::cpu::NPU_ISA {

namespace {

#if defined(__AVX512F__)
constexpr bool kTransposes = true;

template <int a, int b, int c, int d>
inline F32 quarters(F32 u, F32 v) {  // of 128 bits: two of u, two of v
  constexpr auto at = [](int quarter, int i) { return 4 * quarter + i; };
  return __builtin_shufflevector(u, v, at(a, 0), at(a, 1), at(a, 2), at(a, 3), at(b, 0), at(b, 1), at(b, 2),
                                 at(b, 3), at(c + 4, 0), at(c + 4, 1), at(c + 4, 2), at(c + 4, 3),
                                 at(d + 4, 0), at(d + 4, 1), at(d + 4, 2), at(d + 4, 3));
}

// 16 rows become 16 columns.
inline void transpose(F32 (&r)[kLanes]) {
  typedef double F64 __attribute__((vector_size(64)));
  F32 u[kLanes];
#pragma GCC unroll 4
  for (int g = 0; g < kLanes; g += 4) {
    F64 t[4];
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      const F32 a = r[g + 2 * i], b = r[g + 2 * i + 1];
      t[i] = (F64)__builtin_shufflevector(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
      t[i + 2] =
          (F64)__builtin_shufflevector(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      u[g + 2 * i] = (F32)__builtin_shufflevector(t[2 * i], t[2 * i + 1], 0, 8, 2, 10, 4, 12, 6, 14);
      u[g + 2 * i + 1] = (F32)__builtin_shufflevector(t[2 * i], t[2 * i + 1], 1, 9, 3, 11, 5, 13, 7, 15);
    }
  }
  // Quarter q of u[g + c] is column 4q + c of rows g to g + 3.
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    const F32 even0 = quarters<0, 2, 0, 2>(u[c], u[c + 4]), odd0 = quarters<1, 3, 1, 3>(u[c], u[c + 4]);
    const F32 even1 = quarters<0, 2, 0, 2>(u[c + 8], u[c + 12]),
              odd1 = quarters<1, 3, 1, 3>(u[c + 8], u[c + 12]);
    r[c] = quarters<0, 2, 0, 2>(even0, even1);
    r[c + 4] = quarters<0, 2, 0, 2>(odd0, odd1);
    r[c + 8] = quarters<1, 3, 1, 3>(even0, even1);
    r[c + 12] = quarters<1, 3, 1, 3>(odd0, odd1);
  }
}
#else
constexpr bool kTransposes = false;
inline void transpose(F32 (&)[kLanes]) {}
#endif

// Word `i` of a row, which is as aligned as its elements are.
inline const char* word_at(const void* rows, std::int64_t stride, std::int64_t j, std::int64_t i) {
  return static_cast<const char*>(rows) + j * stride + i * 4;
}
inline F32 words_at(const void* rows, std::int64_t stride, std::int64_t j, std::int64_t i) {
  F32 v;
  __builtin_memcpy(&v, word_at(rows, stride, j, i), sizeof v);
  return v;
}

// One word at a time: what no square of words covers.
inline void transpose_rest(const void* rows, std::int64_t stride, std::int64_t count, std::int64_t begin,
                           std::int64_t length, float* to, std::int64_t nr, std::int64_t width) {
  for (std::int64_t j = 0; j < width; ++j) {
    for (std::int64_t i = begin; i < length; ++i) {
      std::uint32_t word = 0;
      if (j < count) __builtin_memcpy(&word, word_at(rows, stride, j, i), sizeof word);
      __builtin_memcpy(to + i * nr + j, &word, sizeof word);
    }
  }
}

void transpose_words(const void* rows, std::int64_t stride, std::int64_t count, std::int64_t length,
                     float* to, std::int64_t nr, std::int64_t width) {
  const std::int64_t squares = kTransposes && width % kLanes == 0 ? length / kLanes * kLanes : 0;
  for (std::int64_t j0 = 0; j0 < width && squares > 0; j0 += kLanes) {
    for (std::int64_t i0 = 0; i0 < squares; i0 += kLanes) {
      F32 square[kLanes];
      if (count - j0 >= kLanes) {
#pragma GCC unroll 16
        for (int j = 0; j < kLanes; ++j) square[j] = words_at(rows, stride, j0 + j, i0);
      } else {
        for (int j = 0; j < kLanes; ++j)
          square[j] = j0 + j < count ? words_at(rows, stride, j0 + j, i0) : F32{};
      }
      transpose(square);
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) store(to + (i0 + i) * nr + j0, square[i]);
    }
  }
  transpose_rest(rows, stride, count, squares, length, to, nr, width);
}

void pair_rows(const std::uint16_t* first, const std::uint16_t* second, float* to, std::int64_t n) {
  const auto words = [](U16 a, U16 b) { return floats((I32)(widened(a) | widened(b) << 16)); };
  std::int64_t j = 0;
  for (; j + kLanes <= n; j += kLanes)
    store(to + j, words(load16(first + j), second != nullptr ? load16(second + j) : U16{}));
  if (j == n) return;
  const U16 rest = second != nullptr ? load16_part(second + j, n - j) : U16{};
  store_part(to + j, words(load16_part(first + j, n - j), rest), n - j);
}

template <F32 (*convert)(U16)>
inline void split_into(const float* words, float* first, float* second, std::int64_t n) {
  std::int64_t j = 0;
  for (; j + kLanes <= n; j += kLanes) {
    const U32 pairs = (U32)bits(load(words + j));
    store(first + j, convert(narrowed(pairs)));
    store(second + j, convert(narrowed(pairs >> 16)));
  }
  if (j == n) return;
  const U32 pairs = (U32)bits(load_part(words + j, n - j));
  store_part(first + j, convert(narrowed(pairs)), n - j);
  store_part(second + j, convert(narrowed(pairs >> 16)), n - j);
}

void split_pairs(DType dtype, const float* words, float* first, float* second, std::int64_t n) {
  dtype == DType::kFloat16 ? split_into<from_f16>(words, first, second, n)
                           : split_into<from_bf16>(words, first, second, n);
}

}  // namespace

void fill_panels(Micro& micro) {
  micro.transpose_words = transpose_words;
  micro.pair_rows = pair_rows;
  micro.split_pairs = split_pairs;
}

}  // namespace npu::cpu::NPU_ISA
