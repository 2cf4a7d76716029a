// Convolutions of each channel by itself: every input pixel of a row is loaded once, for all columns of the
// filter.
#include <utility>

#include "cpu/micro/group_tile.h"
#include "cpu/micro/table.h"

namespace npu::cpu::NPU_ISA {

namespace {

#if defined(__AVX512F__)
constexpr int kPixels = 14;  // divides most images' rows
#else
constexpr int kPixels = 8;  // their sums, the weights of a row and an input fit 16 registers
#endif

template <int columns, int stride, Form form, int pixels>
void tile(const GroupTile& t) {
  constexpr int reach = (pixels - 1) * stride + columns;
  F32 acc[pixels] = {};
  const std::int64_t step = t.x_stride, n = t.channels;
  for (int r = 0; r < t.tap_count; ++r) {
    const float* const x = t.x + t.taps[r].x;
    const float* const w = t.w + t.taps[r].w;
    F32 weights[columns];
#pragma GCC unroll 8
    for (int k = 0; k < columns; ++k) weights[k] = load(w + k * kLanes);
#pragma GCC unroll 40
    for (int j = 0; j < reach; ++j) {
      const bool at_border = j < columns - 1 || j > reach - columns;
      if (at_border && (j < t.begin || j >= t.end))
        continue;  // and not zero times a weight that is not finite
      const F32 v = load_lanes<form>(x + j * step, n);
#pragma GCC unroll 8
      for (int k = 0; k < columns; ++k) {
        if (j >= k && (j - k) % stride == 0 && (j - k) / stride < pixels)
          acc[(j - k) / stride] += v * weights[k];
      }
    }
  }
  finish<form, pixels>(t, acc);
}

using Tile = void (*)(const GroupTile&);

template <int columns, int stride, Form form, int... pixels>
Tile of_pixels(int count, std::integer_sequence<int, pixels...>) {
  static constexpr Tile tiles[] = {tile<columns, stride, form, pixels + 1>...};
  return tiles[count - 1];
}

template <int columns, int stride>
void run(int pixels, const GroupTile& t) {
  constexpr auto counts = std::make_integer_sequence<int, kPixels>{};
  const bool whole = t.channels == kLanes;
  const Tile tile = whole ? of_pixels<columns, stride, kWhole>(pixels, counts)
                          : of_pixels<columns, stride, kPart>(pixels, counts);
  tile(t);
}

template <int columns>
GroupTileRun of_stride(std::int64_t stride) {
  return stride == 1 ? run<columns, 1> : stride == 2 ? run<columns, 2> : nullptr;
}

GroupTileRun depthwise_tile(std::int64_t columns, std::int64_t stride) {
  switch (columns) {
    case 3:
      return of_stride<3>(stride);
    case 5:
      return of_stride<5>(stride);
    case 7:
      return of_stride<7>(stride);
    default:
      return nullptr;
  }
}

}  // namespace

void fill_depthwise(Micro& micro) {
  micro.depthwise_pixels = kPixels;
  micro.depthwise_tile = depthwise_tile;
}

}  // namespace npu::cpu::NPU_ISA
