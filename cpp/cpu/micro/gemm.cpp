#include "cpu/micro/gemm.h"

#include <cstring>
#include <utility>

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace npu::cpu::NPU_ISA {

namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16, kVectors = 2, kRows = 14;
#elif defined(__AVX2__)
constexpr int kLanes = 8, kVectors = 2, kRows = 6;
#elif defined(__aarch64__)
constexpr int kLanes = 4, kVectors = 4, kRows = 6;
#else
constexpr int kLanes = 4, kVectors = 2, kRows = 4;
#endif
constexpr int kColumns = kLanes * kVectors;

typedef float Vec __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));
typedef float AlignedVec __attribute__((vector_size(kLanes * 4)));

inline AlignedVec load(const float* p) { return *reinterpret_cast<const Vec*>(p); }
inline void store(float* p, AlignedVec v) { *reinterpret_cast<Vec*>(p) = v; }
inline AlignedVec broadcast(float x) { return x - AlignedVec{}; }

// A tile at the right edge: columns beyond `columns` are dropped.
[[gnu::noinline]] void finish_edge(int rows, int columns, const float* sums, const GemmTile& tile) {
  for (int i = 0; i < rows; ++i, sums += kColumns) {
    float* const c = tile.c + i * tile.c_stride;
    const float* add = tile.residual ? tile.residual + i * tile.residual_stride : nullptr;
    for (int j = 0; j < columns; ++j) {
      float v = sums[j];
      if (tile.accumulate) v += c[j];
      if (tile.bias) v += tile.bias[j];
      if (add) v += add[j];
      c[j] = tile.relu && v < 0 ? 0 : v;  // a NaN compares false and stays
    }
  }
}

// One pass for each thing to do, so that the sums stay in registers.
template <int rows>
inline void finish(AlignedVec (&acc)[rows][kVectors], const GemmTile& tile) {
  const auto each = [&](auto change) {
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) acc[i][j] = change(acc[i][j], i, j * kLanes);
    }
  };
  if (tile.accumulate) {
    each([&](AlignedVec v, int i, int j) { return v + load(tile.c + i * tile.c_stride + j); });
  }
  if (tile.bias) {
    each([&](AlignedVec v, int, int j) { return v + load(tile.bias + j); });
  }
  if (tile.residual) {
    each([&](AlignedVec v, int i, int j) { return v + load(tile.residual + i * tile.residual_stride + j); });
  }
  if (tile.relu) {
    const AlignedVec zero = {};
    each([&](AlignedVec v, int, int) { return v < zero ? zero : v; });  // a NaN compares false and stays
  }
  each([&](AlignedVec v, int i, int j) {
    store(tile.c + i * tile.c_stride + j, v);
    return v;
  });
}

// What the end of the tile will read or write: by then it has come.
template <int rows>
inline void prefetch_results(const GemmTile& tile) {
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < kColumns; j += 16) {
      __builtin_prefetch(tile.c + i * tile.c_stride + j, 1);
      if (tile.residual) __builtin_prefetch(tile.residual + i * tile.residual_stride + j);
    }
  }
}

struct ProductF32 {
  static AlignedVec broadcast_at(const float* p) { return broadcast(*p); }
  static AlignedVec add(AlignedVec sum, AlignedVec x, AlignedVec y) { return sum + x * y; }
};

#if defined(__AVX512BF16__)
struct ProductBf16 {
  static AlignedVec broadcast_at(const float* p) {
    std::int32_t pair;
    std::memcpy(&pair, p, sizeof pair);
    return reinterpret_cast<AlignedVec>(_mm512_set1_epi32(pair));
  }
  static AlignedVec add(AlignedVec sum, AlignedVec x, AlignedVec y) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(x), reinterpret_cast<__m512bh>(y));
  }
};
#endif

template <class Product, int rows>
void tile(int columns, const GemmTile& tile) {
  prefetch_results<rows>(tile);
  AlignedVec acc[rows][kVectors] = {};
  const std::int64_t stride = tile.a_stride;
  const float* b = static_cast<const float*>(tile.b);
  const float* next = tile.next ? tile.next : b;
  for (int segment = 0; segment < tile.segments; ++segment) {
    const float* a = static_cast<const float*>(tile.a) + (tile.segment_at ? tile.segment_at[segment] : 0);
    for (std::int64_t k = tile.k; k > 0; --k) {
      __builtin_prefetch(next, 0, 2);
      AlignedVec column[kVectors];
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) column[j] = load(b + j * kLanes);
#pragma GCC unroll 16
      for (int i = 0; i < rows; ++i) {
        const AlignedVec x = Product::broadcast_at(a + i * stride);
#pragma GCC unroll 4
        for (int j = 0; j < kVectors; ++j) acc[i][j] = Product::add(acc[i][j], x, column[j]);
      }
      a += 1;
      b += kColumns;
      next += tile.next_step;
    }
  }
  if (columns == kColumns) return finish<rows>(acc, tile);
  alignas(64) float sums[rows * kColumns];
  std::memcpy(sums, acc, sizeof sums);
  finish_edge(rows, columns, sums, tile);
}

template <class Product, int... rows>
constexpr auto tiles(std::integer_sequence<int, rows...>) {
  struct Table {
    void (*at[sizeof...(rows)])(int, const GemmTile&);
  };
  return Table{{tile<Product, rows + 1>...}};
}

template <class Product>
void gemm(int rows, int columns, const GemmTile& tile) {
  static constexpr auto table = tiles<Product>(std::make_integer_sequence<int, kRows>{});
  table.at[rows - 1](columns, tile);
}

inline float total(AlignedVec v) {
  float lanes[kLanes];
  store(lanes, v);
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  }
  return lanes[0];
}

double burn(std::int64_t rounds) {
  constexpr int kChains = 12;
  AlignedVec acc[kChains];
  for (int i = 0; i < kChains; ++i) acc[i] = broadcast(static_cast<float>(i));
  const AlignedVec x = broadcast(0.999f), y = broadcast(1e-3f);
  for (std::int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) acc[i] = acc[i] * x + y;
  }
  AlignedVec all = acc[0];
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
