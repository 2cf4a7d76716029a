// Convolutions in groups: a vector of output channels takes its input from the channels of their groups.
#include <utility>

#include "cpu/micro/table.h"
#include "cpu/micro/vec.h"

namespace npu::cpu::NPU_ISA {

namespace {

constexpr int kPixels = 12;  // their sums, a weight, an index and an input fit 16 registers

// Which input a lane of the output takes: the one in the same lane, one of its group's, of fewer inputs than
// outputs, or one for all.
enum Takes { kOwn, kGroups, kFewer, kOne };

// The lane of the first input of each output's group.
inline I32 first_inputs(const GroupTile& t) {
  I32 lanes = {};
  for (int i = 0; i < kLanes; ++i) lanes[i] = i / t.outputs * t.inputs;
  return lanes;
}

inline F32 permute(F32 v, I32 index) {
#if defined(__AVX512F__)
  return _mm512_maskz_permutexvar_ps(0xffff, (__m512i)index, v);
#elif defined(__AVX2__)
  return _mm256_permutevar8x32_ps(v, (__m256i)index);
#else
  F32 result = {};
  for (int i = 0; i < kLanes; ++i) result[i] = v[index[i]];
  return result;
#endif
}

template <bool whole>
inline F32 load_lanes(const float* p, std::int64_t n) {
  return whole ? load(p) : load_part(p, n);
}

template <Takes takes, bool whole, int pixels>
void tile(const GroupTile& t) {
  F32 acc[pixels] = {};
  const std::int64_t stride = t.x_stride, n = t.channels;
  const I32 first_input = takes == kGroups || takes == kFewer ? first_inputs(t) : I32{};
  const std::int64_t seen = n / t.outputs * t.inputs;
  for (int k = 0; k < t.tap_count; ++k) {
    const float* const x = t.x + t.taps[k].x;
    const float* w = t.w + t.taps[k].w;
    const int inputs = takes == kOwn ? 1 : t.inputs;
    for (int j = 0; j < inputs; ++j, w += kLanes) {
      const F32 weight = load(w);
      const I32 index = first_input + j;
#pragma GCC unroll 16
      for (int i = 0; i < pixels; ++i) {
        const float* const at = x + i * stride;
        if constexpr (takes == kOwn) acc[i] += load_lanes<whole>(at, n) * weight;
        if constexpr (takes == kGroups) acc[i] += permute(load_lanes<whole>(at, n), index) * weight;
        if constexpr (takes == kFewer) acc[i] += permute(load_part(at, seen), index) * weight;
        if constexpr (takes == kOne) acc[i] += all(at[j]) * weight;
      }
    }
  }
  const F32 bias = t.bias ? load_lanes<whole>(t.bias, n) : F32{};
#pragma GCC unroll 16
  for (int i = 0; i < pixels; ++i) {
    F32 v = acc[i];
    if (t.accumulate) v += load_lanes<whole>(t.c + i * t.c_stride, n);
    v += bias;
    if (t.residual) v += load_lanes<whole>(t.residual + i * t.residual_stride, n);
    if (t.limits.apply) v = within(v, t.limits.low, t.limits.high);
    if (whole) {
      store(t.c + i * t.c_stride, v);
    } else {
      store_part(t.c + i * t.c_stride, v, n);
    }
  }
}

using Tile = void (*)(const GroupTile&);

template <Takes takes, bool whole, int... pixels>
Tile of_pixels(int count, std::integer_sequence<int, pixels...>) {
  static constexpr Tile tiles[] = {tile<takes, whole, pixels + 1>...};
  return tiles[count - 1];
}

template <Takes takes>
Tile of_width(int pixels, bool whole) {
  constexpr auto counts = std::make_integer_sequence<int, kPixels>{};
  return whole ? of_pixels<takes, true>(pixels, counts) : of_pixels<takes, false>(pixels, counts);
}

void group_tile(int pixels, const GroupTile& t) {
  const bool whole = t.channels == kLanes;
  const Tile tile = t.one_group             ? of_width<kOne>(pixels, whole)
                    : t.outputs == 1        ? of_width<kOwn>(pixels, whole)
                    : t.inputs == t.outputs ? of_width<kGroups>(pixels, whole)
                                            : of_width<kFewer>(pixels, whole);
  tile(t);
}

}  // namespace

void fill_groups(Micro& micro) {
  micro.lanes = kLanes;
  micro.group_pixels = kPixels;
  micro.group_tile = group_tile;
}

}  // namespace npu::cpu::NPU_ISA
