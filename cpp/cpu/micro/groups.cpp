// Convolutions in groups: a vector of output channels takes its input from the channels of their groups.
#include <utility>

#include "cpu/micro/group_tile.h"
#include "cpu/micro/table.h"

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

template <Takes takes, Form form, int pixels>
void tile(const GroupTile& t) {
  F32 acc[pixels] = {};
  const std::int64_t stride = t.x_stride, n = t.channels;
  const I32 first_input = takes == kGroups || takes == kFewer ? first_inputs(t) : I32{};
  const std::int64_t seen = n / t.outputs * t.inputs;
  for (int k = 0; k < t.tap_count; ++k) {
    const float* const x = t.x + t.taps[k].x;
    const float* w = t.w + t.taps[k].w;
    const int inputs = takes == kOwn ? 1 : t.inputs;
    const std::uint32_t seen_by = form == kBorder ? t.seen[t.taps[k].column] : 0;
    for (int j = 0; j < inputs; ++j, w += kLanes) {
      const F32 weight = load(w);
      const I32 index = first_input + j;
#pragma GCC unroll 16
      for (int i = 0; i < pixels; ++i) {
        if (form == kBorder && (seen_by >> i & 1) == 0) continue;
        const float* const at = x + i * stride;
        if constexpr (takes == kOwn) acc[i] += load_lanes<form>(at, n) * weight;
        if constexpr (takes == kGroups) acc[i] += lanes_of(load_lanes<form>(at, n), index) * weight;
        if constexpr (takes == kFewer) acc[i] += lanes_of(load_part(at, seen), index) * weight;
        if constexpr (takes == kOne) acc[i] += all(at[j]) * weight;
      }
    }
  }
  finish<form, pixels>(t, acc);
}

using Tile = void (*)(const GroupTile&);

template <Takes takes, Form form, int... pixels>
Tile of_pixels(int count, std::integer_sequence<int, pixels...>) {
  static constexpr Tile tiles[] = {tile<takes, form, pixels + 1>...};
  return tiles[count - 1];
}

template <Takes takes>
Tile of_form(int pixels, Form form) {
  constexpr auto counts = std::make_integer_sequence<int, kPixels>{};
  return form == kWhole  ? of_pixels<takes, kWhole>(pixels, counts)
         : form == kPart ? of_pixels<takes, kPart>(pixels, counts)
                         : of_pixels<takes, kBorder>(pixels, counts);
}

void group_tile(int pixels, const GroupTile& t) {
  const Form form = t.seen ? kBorder : t.channels == kLanes ? kWhole : kPart;
  const Tile tile = t.one_group             ? of_form<kOne>(pixels, form)
                    : t.outputs == 1        ? of_form<kOwn>(pixels, form)
                    : t.inputs == t.outputs ? of_form<kGroups>(pixels, form)
                                            : of_form<kFewer>(pixels, form);
  tile(t);
}

}  // namespace

void fill_groups(Micro& micro) {
  micro.lanes = kLanes;
  micro.group_pixels = kPixels;
  micro.group_tile = group_tile;
}

}  // namespace npu::cpu::NPU_ISA
