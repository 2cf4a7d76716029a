// Convolutions with few output channels: a vector holds neighbouring pixels, not channels.
#include "cpu/micro/table.h"
#include "cpu/micro/vec.h"

namespace npu::cpu::NPU_ISA {

namespace {

template <int channels, int vectors>
inline void block(const PlanarRows& r, std::int64_t first, std::int64_t part) {
  F32 acc[channels][vectors] = {};
  const float* w = r.w;
  for (std::int64_t t = 0; t < r.taps; ++t, w += channels) {
    const float* const x = r.x + r.at[t] + first;
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) {
      const F32 value = part == 0 ? load(x + v * kLanes) : load_part(x, part);
#pragma GCC unroll 4
      for (int c = 0; c < channels; ++c) acc[c][v] += value * w[c];
    }
  }
#pragma GCC unroll 4
  for (int c = 0; c < channels; ++c) {
    float* const y = r.y + c * r.y_stride + first;
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) {
      if (part == 0) {
        store(y + v * kLanes, load(y + v * kLanes) + acc[c][v]);
      } else {
        store_part(y, load_part(y, part) + acc[c][v], part);
      }
    }
  }
}

template <int channels>
void rows(const PlanarRows& r) {
  // Sums that fit the registers, beside an input and a weight.
  constexpr int kVectors = channels <= 2  ? 8 / (kLanes == 16 ? 1 : channels)
                           : kLanes == 16 ? 6
                                          : 12 / channels / 2 + 1;
  std::int64_t i = 0;
  for (; i + kVectors * kLanes <= r.n; i += kVectors * kLanes) block<channels, kVectors>(r, i, 0);
  for (; i + kLanes <= r.n; i += kLanes) block<channels, 1>(r, i, 0);
  if (i < r.n) block<channels, 1>(r, i, r.n - i);
}

void planar_rows(const PlanarRows& r) {
  switch (r.channels) {
    case 1:
      return rows<1>(r);
    case 2:
      return rows<2>(r);
    case 3:
      return rows<3>(r);
    default:
      return rows<4>(r);
  }
}

}  // namespace

void fill_planar(Micro& micro) { micro.planar_rows = planar_rows; }

}  // namespace npu::cpu::NPU_ISA
