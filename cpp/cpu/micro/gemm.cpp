#include "cpu/micro/gemm.h"

#include <array>
#include <cstring>
#include <utility>

#include "cpu/micro/vec.h"

namespace npu::cpu::NPU_ISA {

namespace {

#if defined(__AVX512F__)
constexpr int kVectors = 2, kRows = 14;
#elif defined(__AVX2__)
constexpr int kVectors = 2, kRows = 6;
#elif defined(__aarch64__)
constexpr int kVectors = 4, kRows = 6;
#else
constexpr int kVectors = 2, kRows = 4;
#endif
constexpr int kColumns = kLanes * kVectors;

// One pass for each thing to do, so that the sums stay in registers. `last` lanes of the last vector are
// stored.
template <bool whole, int rows, int vectors>
inline void finish(F32 (&acc)[rows][vectors], const GemmTile& tile, std::int64_t last) {
  const auto each = [&](auto change) {
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < vectors; ++j) acc[i][j] = change(acc[i][j], i, j);
    }
  };
  const auto read = [&](const float* row, int j) {
    return whole || j + 1 < vectors ? load(row + j * kLanes) : load_part(row + j * kLanes, last);
  };
  if (tile.accumulate) {
    each([&](F32 v, int i, int j) { return v + read(tile.c + i * tile.c_stride, j); });
  }
  if (tile.bias) {
    each([&](F32 v, int, int j) { return v + load(tile.bias + j * kLanes); });
  }
  if (tile.residual) {
    each([&](F32 v, int i, int j) { return v + read(tile.residual + i * tile.residual_stride, j); });
  }
  if (tile.limits.apply) {
    const float low = tile.limits.low, high = tile.limits.high;
    each([&](F32 v, int, int) { return within(v, low, high); });
  }
  each([&](F32 v, int i, int j) {
    float* const to = tile.c + i * tile.c_stride + j * kLanes;
    if (whole || j + 1 < vectors) {
      store(to, v);
    } else {
      store_part(to, v, last);
    }
    return v;
  });
}

// What the end of the tile will read or write: by then it has come.
template <int rows, int vectors>
inline void prefetch_results(const GemmTile& tile) {
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < vectors * kLanes; j += 16) {
      __builtin_prefetch(tile.c + i * tile.c_stride + j, 1);
      if (tile.residual) __builtin_prefetch(tile.residual + i * tile.residual_stride + j);
    }
  }
}

struct ProductF32 {
  static F32 broadcast_at(const float* p) { return all(*p); }
  static F32 add(F32 sum, F32 x, F32 y) { return sum + x * y; }
};

#if defined(__AVX512BF16__)
struct ProductBf16 {
  static F32 broadcast_at(const float* p) {
    std::int32_t pair;
    std::memcpy(&pair, p, sizeof pair);
    return reinterpret_cast<F32>(_mm512_set1_epi32(pair));
  }
  static F32 add(F32 sum, F32 x, F32 y) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(x), reinterpret_cast<__m512bh>(y));
  }
};
#endif

template <class Product, int rows, int vectors, bool whole>
void tile(const GemmTile& tile, std::int64_t last) {
  prefetch_results<rows, vectors>(tile);
  F32 acc[rows][vectors] = {};
  const std::int64_t stride = tile.a_stride;
  const float* b = static_cast<const float*>(tile.b);
  const float* next = tile.next ? tile.next : b;
  for (int segment = 0; segment < tile.segments; ++segment) {
    const float* a = static_cast<const float*>(tile.a) + (tile.segment_at ? tile.segment_at[segment] : 0);
    for (std::int64_t k = tile.k; k > 0; --k) {
      __builtin_prefetch(next, 0, 2);
      F32 column[vectors];
#pragma GCC unroll 4
      for (int j = 0; j < vectors; ++j) column[j] = load(b + j * kLanes);
#pragma GCC unroll 16
      for (int i = 0; i < rows; ++i) {
        const F32 x = Product::broadcast_at(a + i * stride);
#pragma GCC unroll 4
        for (int j = 0; j < vectors; ++j) acc[i][j] = Product::add(acc[i][j], x, column[j]);
      }
      a += 1;
      b += kColumns;
      next += tile.next_step;
    }
  }
  finish<whole>(acc, tile, last);
}

using Tile = void (*)(const GemmTile&, std::int64_t);

template <class Product, int vectors, bool whole, int... rows>
constexpr std::array<Tile, kRows> of_width(std::integer_sequence<int, rows...>) {
  return {tile<Product, rows + 1, vectors, whole>...};
}

// By vectors of columns, then rows: those whose last vector is whole, and the others.
template <class Product, bool whole, int... vectors>
constexpr std::array<std::array<Tile, kRows>, kVectors> tiles(std::integer_sequence<int, vectors...>) {
  return {of_width<Product, vectors + 1, whole>(std::make_integer_sequence<int, kRows>{})...};
}

template <class Product>
void gemm(int rows, int columns, const GemmTile& tile) {
  static constexpr auto counts = std::make_integer_sequence<int, kVectors>{};
  static constexpr auto whole = tiles<Product, true>(counts), others = tiles<Product, false>(counts);
  const int vectors = (columns + kLanes - 1) / kLanes, last = columns - (vectors - 1) * kLanes;
  const auto& table = last == kLanes ? whole : others;
  table[static_cast<std::size_t>(vectors - 1)][static_cast<std::size_t>(rows - 1)](tile, last);
}

inline float total(F32 v) {
  float lanes[kLanes];
  store(lanes, v);
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  }
  return lanes[0];
}

double burn(std::int64_t rounds) {
  constexpr int kChains = 12;
  F32 acc[kChains];
  for (int i = 0; i < kChains; ++i) acc[i] = all(static_cast<float>(i));
  const F32 x = all(0.999f), y = all(1e-3f);
  for (std::int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) acc[i] = acc[i] * x + y;
  }
  F32 all = acc[0];
  for (int i = 1; i < kChains; ++i) all += acc[i];
  volatile float keep = total(all);
  (void)keep;
  return 2.0 * kChains * kLanes * static_cast<double>(rounds);
}

}  // namespace

void fill_gemm(Micro& micro) {
  micro.mr = kRows;
  micro.nr = kColumns;
  micro.gemm_f32 = gemm<ProductF32>;
#if defined(__AVX512BF16__)
  micro.gemm_bf16 = gemm<ProductBf16>;
#else
  micro.gemm_bf16 = nullptr;
#endif
  micro.burn = burn;
}

}  // namespace npu::cpu::NPU_ISA
