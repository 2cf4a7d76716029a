// Few rows times many: each weight is read once, as it lies, and meets all rows of x.
#include <utility>

#include "cpu/micro/half.h"
#include "cpu/micro/table.h"

namespace npu::cpu::NPU_ISA {

namespace {

// How a vector of weights is read and multiplied.
struct Wide {
  using X = float;
  typedef F32 Part;
  static constexpr int kStep = kLanes;
  static F32 x_at(const float* p) { return load(p); }
  static F32 x_part(const float* p, std::int64_t n) { return load_part(p, n); }
  static F32 add(F32 sum, F32 x, F32 w) { return sum + x * w; }
};
struct WideF32 : Wide {
  using W = float;
  static F32 w_at(const float* p) { return load(p); }
  static F32 w_part(const float* p, std::int64_t n) { return load_part(p, n); }
};
template <F32 (*widen)(U16)>
struct WideHalf : Wide {
  using W = std::uint16_t;
  static F32 w_at(const std::uint16_t* p) { return widen(load16(p)); }
  static F32 w_part(const std::uint16_t* p, std::int64_t n) { return widen(load16_part(p, n)); }
};
struct WideInt8 : Wide {
  using W = std::int8_t;
  static F32 w_at(const std::int8_t* p) { return load_i8(p); }
  static F32 w_part(const std::int8_t* p, std::int64_t n) { return load_i8_part(p, n); }
};
#if defined(__AVX512BF16__)
struct Pairs {
  using W = std::uint16_t;
  using X = std::uint16_t;
  typedef __m512bh Part;
  static constexpr int kStep = 2 * kLanes;
  static Part x_at(const std::uint16_t* p) { return (Part)_mm512_loadu_si512(p); }
  static Part x_part(const std::uint16_t* p, std::int64_t n) {
    return (Part)_mm512_maskz_loadu_epi16(static_cast<__mmask32>((1u << n) - 1u), p);
  }
  static Part w_at(const std::uint16_t* p) { return x_at(p); }
  static Part w_part(const std::uint16_t* p, std::int64_t n) { return x_part(p, n); }
  static F32 add(F32 sum, Part x, Part w) { return _mm512_dpbf16_ps(sum, x, w); }
};
// bfloat16 has all of int8.
struct PairsOfInt8 : Pairs {
  using W = std::int8_t;
  static Part w_at(const std::int8_t* p) { return _mm512_cvtne2ps_pbh(load_i8(p + kLanes), load_i8(p)); }
  static Part w_part(const std::int8_t* p, std::int64_t n) {
    std::int8_t part[kStep] = {};
    for (std::int64_t j = 0; j < n; ++j) part[j] = p[j];
    return w_at(part);
  }
};
#endif

typedef float Quad __attribute__((vector_size(16)));

// The sums of the lanes of four vectors.
inline Quad sums_of(F32 a, F32 b, F32 c, F32 d) {
#if defined(__AVX512F__)
  typedef double F64 __attribute__((vector_size(64)));
  const auto pairs = [](F32 u, F32 v) {
    return __builtin_shufflevector(u, v, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29) +
           __builtin_shufflevector(u, v, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  };
  const F64 ab = (F64)pairs(a, b), cd = (F64)pairs(c, d);
  const F32 all = (F32)__builtin_shufflevector(ab, cd, 0, 8, 2, 10, 4, 12, 6, 14) +
                  (F32)__builtin_shufflevector(ab, cd, 1, 9, 3, 11, 5, 13, 7, 15);
  typedef float Octet __attribute__((vector_size(32)));
  const Octet half = __builtin_shufflevector(all, all, 0, 1, 2, 3, 4, 5, 6, 7) +
                     __builtin_shufflevector(all, all, 8, 9, 10, 11, 12, 13, 14, 15);
  return __builtin_shufflevector(half, half, 0, 1, 2, 3) + __builtin_shufflevector(half, half, 4, 5, 6, 7);
#else
  const auto fold = [](F32 v) {
    Quad sum = {};
    for (int i = 0; i < kLanes; i += 4) sum += Quad{v[i], v[i + 1], v[i + 2], v[i + 3]};
    return sum;
  };
  const Quad p = fold(a), q = fold(b), r = fold(c), s = fold(d);
  const Quad pq = __builtin_shufflevector(p, q, 0, 4, 1, 5) + __builtin_shufflevector(p, q, 2, 6, 3, 7);
  const Quad rs = __builtin_shufflevector(r, s, 0, 4, 1, 5) + __builtin_shufflevector(r, s, 2, 6, 3, 7);
  return __builtin_shufflevector(pq, rs, 0, 1, 4, 5) + __builtin_shufflevector(pq, rs, 2, 3, 6, 7);
#endif
}

// A part of the depth.
struct Part {
  std::int64_t begin, length;
};

// `columns` rows of w with all `rows` of x. What the next call will read is fetched meanwhile: the
// hardware does not see that far where rows are short.
template <class P, int rows, int columns>
inline void block(const typename P::W* w, const GemvCall& call, Part part, float* out, bool more) {
  constexpr int kSums = rows * columns, kPhases = kSums <= 4 ? 2 : 1;
  const auto* x = static_cast<const typename P::X*>(call.x) + part.begin;
  w += part.begin;
  const std::int64_t depth = part.length, stride = call.stride, x_stride = call.x_stride;
  const std::int64_t ahead = more ? columns * stride : 0;
  F32 acc[kPhases][kSums] = {};
  const auto step = [&](F32(&sums)[kSums], std::int64_t k, auto read_x, auto read_w) {
    typename P::Part u[columns];
#pragma GCC unroll 8
    for (int j = 0; j < columns; ++j) u[j] = read_w(w + j * stride + k);
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i) {
      const typename P::Part v = read_x(x + i * x_stride + k);
#pragma GCC unroll 8
      for (int j = 0; j < columns; ++j) sums[i * columns + j] = P::add(sums[i * columns + j], v, u[j]);
    }
  };
  std::int64_t k = 0;
  for (; k + kPhases * P::kStep <= depth; k += kPhases * P::kStep) {
#pragma GCC unroll 2
    for (int phase = 0; phase < kPhases; ++phase) {
      const std::int64_t at = k + phase * P::kStep;
#pragma GCC unroll 8
      for (int j = 0; j < columns; ++j) __builtin_prefetch(w + j * stride + at + ahead);
      step(acc[phase], at, P::x_at, P::w_at);
    }
  }
  for (; k + P::kStep <= depth; k += P::kStep) step(acc[0], k, P::x_at, P::w_at);
  if (const std::int64_t left = depth - k; left > 0) {
    step(
        acc[0], k, [left](const typename P::X* p) { return P::x_part(p, left); },
        [left](const typename P::W* p) { return P::w_part(p, left); });
  }
  const auto sum = [&](int s) {
    if (s >= kSums) return F32{};
    return kPhases == 2 ? acc[0][s] + acc[kPhases - 1][s] : acc[0][s];
  };
  float total[(kSums + 3) / 4 * 4];
#pragma GCC unroll 8
  for (int s = 0; s < kSums; s += 4) {
    const Quad four = sums_of(sum(s), sum(s + 1), sum(s + 2), sum(s + 3));
    __builtin_memcpy(total + s, &four, sizeof four);
  }
  for (int i = 0; i < rows; ++i) {
    float* const to = out + i * call.out_stride;
    for (int j = 0; j < columns; ++j)
      to[j] = part.begin > 0 ? to[j] + total[i * columns + j] : total[i * columns + j];
  }
}

// Four rows of w one after the other, for one or two of x: what is read is one stream, as fast as memory
// gives it. It is used once, so it is fetched past the outer caches. The rows are a loop: unrolled, they were
// read 14% slower.
template <class P, int rows>
inline void row_by_row(const typename P::W* w, const GemvCall& call, float* out) {
  constexpr int kPhases = 4 / rows, kAhead = 8192 / sizeof(typename P::W);
  const auto* x = static_cast<const typename P::X*>(call.x);
  const std::int64_t depth = call.depth;
  F32 sums[4][rows];
#pragma GCC unroll 1
  for (int j = 0; j < 4; ++j, w += call.stride) {
    F32 acc[kPhases][rows] = {};
    std::int64_t k = 0;
    for (; k + kPhases * P::kStep <= depth; k += kPhases * P::kStep) {
#pragma GCC unroll 4
      for (int phase = 0; phase < kPhases; ++phase) {
        const std::int64_t at = k + phase * P::kStep;
        __builtin_prefetch(w + at + kAhead, 0, 0);
        const typename P::Part u = P::w_at(w + at);
#pragma GCC unroll 8
        for (int i = 0; i < rows; ++i)
          acc[phase][i] = P::add(acc[phase][i], P::x_at(x + i * call.x_stride + at), u);
      }
    }
    for (; k < depth; k += P::kStep) {
      const std::int64_t left = depth - k;
      const bool whole = left >= P::kStep;
      const typename P::Part u = whole ? P::w_at(w + k) : P::w_part(w + k, left);
      for (int i = 0; i < rows; ++i) {
        const auto* from = x + i * call.x_stride + k;
        acc[0][i] = P::add(acc[0][i], whole ? P::x_at(from) : P::x_part(from, left), u);
      }
    }
    for (int i = 0; i < rows; ++i) {
      sums[j][i] = acc[0][i];
      for (int phase = 1; phase < kPhases; ++phase) sums[j][i] += acc[phase][i];
    }
  }
  for (int i = 0; i < rows; ++i) {
    const Quad four = sums_of(sums[0][i], sums[1][i], sums[2][i], sums[3][i]);
    __builtin_memcpy(out + i * call.out_stride, &four, sizeof four);
  }
}

// As many rows of w at a time as there are registers for.
constexpr int columns_for(int rows) {
  if (kLanes == 16) return rows <= 6 ? 4 : 3;
  return rows <= 2 ? 4 : rows <= 4 ? 2 : 1;
}

template <class P, int rows>
void blocks(const GemvCall& call) {
  constexpr int kColumns = columns_for(rows);
  // What is used of x stays in the first-level cache.
  constexpr std::int64_t kAll = 40960 / (rows * sizeof(typename P::X)), kPart = kAll / 2 / 64 * 64;
  const auto* w = static_cast<const typename P::W*>(call.w);
  if constexpr (rows <= 2) {
    constexpr std::int64_t kShort = 256 / sizeof(typename P::W);
    if (call.stride == call.depth && call.depth > kShort && call.depth <= kAll && call.columns % 4 == 0) {
      for (std::int64_t j = 0; j < call.columns; j += 4)
        row_by_row<P, rows>(w + j * call.stride, call, call.out + j);
      return;
    }
  }
  for (Part part{0, 0}; part.begin < call.depth || part.begin == 0; part.begin += part.length) {
    const std::int64_t left = call.depth - part.begin;
    part.length = left > kAll ? kPart : left;
    std::int64_t j = 0;
    for (; j + kColumns <= call.columns; j += kColumns)
      block<P, rows, kColumns>(w + j * call.stride, call, part, call.out + j,
                               j + 2 * kColumns <= call.columns);
    if constexpr (kColumns > 1) {
      for (; j < call.columns; ++j) block<P, rows, 1>(w + j * call.stride, call, part, call.out + j, false);
    }
    if (call.depth == 0) return;
  }
}

template <class P, int... rows>
constexpr auto for_rows(std::integer_sequence<int, rows...>) {
  struct Table {
    void (*at[sizeof...(rows)])(const GemvCall&);
  };
  return Table{{blocks<P, rows + 1>...}};
}

template <class P>
void gemv(const GemvCall& call) {
  static constexpr auto table = for_rows<P>(std::make_integer_sequence<int, kGemvRows>{});
  table.at[call.rows - 1](call);
}

}  // namespace

void fill_gemv(Micro& micro) {
  micro.gemv_f32 = gemv<WideF32>;
  micro.gemv_bf16 = gemv<WideHalf<from_bf16>>;
  micro.gemv_f16 = gemv<WideHalf<from_f16>>;
  micro.gemv_i8 = gemv<WideInt8>;
#if defined(__AVX512BF16__)
  micro.gemv_pairs = gemv<Pairs>;
  micro.gemv_i8_pairs = gemv<PairsOfInt8>;
#else
  micro.gemv_pairs = micro.gemv_i8_pairs = nullptr;
#endif
}

}  // namespace npu::cpu::NPU_ISA
