// The transforms of convolutions with 3x3 taps as products of transformed tiles: F(2x2, 3x3).
#include "cpu/micro/table.h"
#include "cpu/micro/vec.h"

namespace npu::cpu::NPU_ISA {

namespace {

template <bool whole>
inline F32 read(const float* p, std::int64_t n) {
  return whole ? load(p) : load_part(p, n);
}
template <bool whole>
inline void write(float* p, F32 v, std::int64_t n) {
  whole ? store(p, v) : store_part(p, v, n);
}

inline void across(F32 (&to)[4], F32 a, F32 b, F32 c, F32 d) {
  to[0] = a - c;
  to[1] = b + c;
  to[2] = c - b;
  to[3] = b - d;
}

template <bool whole>
inline void input_lanes(const WinogradInput& t, std::int64_t channel, std::int64_t n) {
  F32 rows[4][4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const float* const x = t.x + i * t.row_step + channel;
    across(rows[i], read<whole>(x, n), read<whole>(x + t.column_step, n),
           read<whole>(x + 2 * t.column_step, n), read<whole>(x + 3 * t.column_step, n));
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    F32 column[4];
    across(column, rows[0][j], rows[1][j], rows[2][j], rows[3][j]);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) write<whole>(t.to + (4 * i + j) * t.to_step + channel, column[i], n);
  }
}

void winograd_input(const WinogradInput& t) {
  std::int64_t channel = 0;
  for (; channel + kLanes <= t.channels; channel += kLanes) input_lanes<true>(t, channel, kLanes);
  if (channel < t.channels) input_lanes<false>(t, channel, t.channels - channel);
}

// Whether all sums are finite.
template <bool whole>
inline I32 output_lanes(const WinogradOutput& t, std::int64_t channel, std::int64_t n) {
  F32 rows[2][4];
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const float* const m = t.from + j * t.from_step + channel;
    const F32 b = read<whole>(m + 4 * t.from_step, n), c = read<whole>(m + 8 * t.from_step, n);
    rows[0][j] = read<whole>(m, n) + b + c;
    rows[1][j] = b - c - read<whole>(m + 12 * t.from_step, n);
  }
  const F32 bias = t.bias ? read<whole>(t.bias + channel, n) : F32{};
  F32 nothing = {};
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    const F32 sums[2] = {rows[i][0] + rows[i][1] + rows[i][2], rows[i][1] - rows[i][2] - rows[i][3]};
    nothing += sums[0] * 0.0f + sums[1] * 0.0f;
    if (i >= t.rows) continue;
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      if (j >= t.columns) continue;
      F32 v = sums[j] + bias;
      if (t.residual) {
        v += read<whole>(t.residual + i * t.residual_row + j * t.residual_column + channel, n);
      }
      if (t.limits.apply) v = within(v, t.limits.low, t.limits.high);
      write<whole>(t.y + i * t.row_step + j * t.column_step + channel, v, n);
    }
  }
  return nothing == nothing;
}

bool winograd_output(const WinogradOutput& t) {
  I32 finite = ~I32{};
  std::int64_t channel = 0;
  for (; channel + kLanes <= t.channels; channel += kLanes) finite &= output_lanes<true>(t, channel, kLanes);
  if (channel < t.channels) finite &= output_lanes<false>(t, channel, t.channels - channel);
  bool all = true;
  for (int i = 0; i < kLanes; ++i) all = all && finite[i] != 0;
  return all;
}

}  // namespace

void fill_winograd(Micro& micro) {
  micro.winograd_input = winograd_input;
  micro.winograd_output = winograd_output;
}

}  // namespace npu::cpu::NPU_ISA
