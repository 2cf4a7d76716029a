// Elements at given positions. Positions are rounded as PyTorch rounds them: CMakeLists.txt forbids
// contraction here, because of it the nearest of two elements could be another one.
#include <cstring>

#include "cpu/micro/functions.h"
#include "cpu/micro/half.h"
#include "cpu/micro/table.h"

namespace npu::cpu::NPU_ISA {

namespace {

using Padding = GridSampleAttrs::Padding;
using Kind = GridSampleAttrs::Kind;

inline F32 padded(F32 at, const GridAxis& axis) {
  if (axis.padding == Padding::kZeros) return at;
  if (axis.padding == Padding::kReflection) {
    const F32 away = absolute(at - axis.low), turns = floor_of(away / axis.span);
    const F32 rest = axis.span > 0.0f ? away - turns * axis.span : all(0.0f);
    at = (turns - 2.0f * floor_of(turns * 0.5f) == 1.0f ? axis.span - rest : rest) + axis.low;
  }
  return within(at == at ? at : all(0.0f), 0.0f, axis.last);
}

typedef std::int64_t I64 __attribute__((vector_size(kLanes * 8)));

// One element for each of some positions: where it lies, and its weight or the mark of one outside.
struct Tap {
  I32 index;
  F32 weight;
};

inline Tap tap_at(F32 at, F32 weight, const GridAxis& axis) {
  const I32 inside = (at >= 0.0f) & (at <= axis.last);  // NaN is not
  const F32 index = inside ? at : all(0.0f);
  const I32 counts = inside | (axis.keeps_nan & (weight != weight));
  return {__builtin_convertvector(index, I32), counts ? weight + 0.0f : all(kOutside)};
}

inline F32 cubic_near(F32 t) { return (1.25f * t - 2.25f) * t * t + 1.0f; }
inline F32 cubic_far(F32 t) { return ((-0.75f * t + 3.75f) * t - 6.0f) * t + 3.0f; }

// The taps of one vector of positions; returns how many there are.
inline int taps_of(F32 at, const GridAxis& axis, Tap* taps) {
  if (axis.kind == Kind::kNearest) {
    taps[0] = tap_at(round_even(padded(at, axis)), all(1.0f), axis);
    return 1;
  }
  if (axis.kind == Kind::kLinear) {
    at = padded(at, axis);
    const F32 low = floor_of(at), t = at - low;
    taps[0] = tap_at(low, 1.0f - t, axis);
    taps[1] = tap_at(low + 1.0f, t, axis);
    return 2;
  }
  const F32 low = floor_of(at), t = at - low;
  taps[0] = tap_at(padded(low - 1.0f, axis), cubic_far(t + 1.0f), axis);
  taps[1] = tap_at(padded(low, axis), cubic_near(t), axis);
  taps[2] = tap_at(padded(low + 1.0f, axis), cubic_near(1.0f - t), axis);
  taps[3] = tap_at(padded(low + 2.0f, axis), cubic_far(2.0f - t), axis);
  return 4;
}

void grid_taps(const GridAxis& axis, const float* grid, std::int64_t n, std::int64_t* at, float* weights) {
  Tap taps[4];
  for (std::int64_t i = 0; i < n; i += kLanes) {
    const std::int64_t m = n - i < kLanes ? n - i : kLanes;
    const F32 g = m == kLanes ? load(grid + i) : load_part(grid + i, m);
    const int count = taps_of((g + 1.0f) * axis.scale - axis.shift, axis, taps);
    for (int k = 0; k < count; ++k) {
      const I64 places = __builtin_convertvector(taps[k].index, I64) * axis.step;
      std::memcpy(at + k * n + i, &places, static_cast<std::size_t>(m) * sizeof(std::int64_t));
      if (m == kLanes) {
        store(weights + k * n + i, taps[k].weight);
      } else {
        store_part(weights + k * n + i, taps[k].weight, m);
      }
    }
  }
}

inline F32 joined_weights(F32 a, F32 b) {
  const F32 both = a * b + 0.0f;
  const I32 outside = (bits(a) == kOutsideBits) | (bits(b) == kOutsideBits);
  return (outside & (both == both)) ? all(kOutside) : both;
}

void join_taps(const std::int64_t* at_a, const float* weights_a, const std::int64_t* at_b,
               const float* weights_b, std::int64_t* at, float* weights, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) at[i] = at_a[i] + at_b[i];
  each(weights_a, weights_b, weights, n, joined_weights);
}

inline F32 pick(const float* x, const std::int64_t* at) {
  F32 v;
  for (int i = 0; i < kLanes; ++i) v[i] = x[at[i]];
  return v;
}
template <F32 (*convert)(U16)>
inline F32 pick_half(const std::uint16_t* x, const std::int64_t* at) {
  U16 v;
  for (int i = 0; i < kLanes; ++i) v[i] = x[at[i]];
  return convert(v);
}

template <class T, F32 (*pick)(const T*, const std::int64_t*)>
inline void sample(const T* x, const std::int64_t* at, const float* weights, int count, float* y,
                   std::int64_t n) {
  for (std::int64_t i = 0; i < n; i += kLanes) {
    const std::int64_t m = n - i < kLanes ? n - i : kLanes;
    F32 total = {};
    for (int k = 0; k < count; ++k) {
      const std::int64_t* from = at + k * n + i;
      std::int64_t few[kLanes] = {};
      if (m < kLanes) {
        for (std::int64_t j = 0; j < m; ++j) few[j] = from[j];
        from = few;
      }
      const F32 w = m == kLanes ? load(weights + k * n + i) : load_part(weights + k * n + i, m);
      const F32 part = pick(x, from) * w, sum = k == 0 ? part : total + part;  // -0 stays
      total = bits(w) == kOutsideBits ? total : sum;
    }
    if (m == kLanes) {
      store(y + i, total);
    } else {
      store_part(y + i, total, m);
    }
  }
}

void sample_cells(DType dtype, const void* x, const std::int64_t* at, const float* weights, int count,
                  float* y, std::int64_t n) {
  if (dtype == DType::kFloat32) {
    sample<float, pick>(static_cast<const float*>(x), at, weights, count, y, n);
  } else if (dtype == DType::kFloat16) {
    sample<std::uint16_t, pick_half<from_f16>>(static_cast<const std::uint16_t*>(x), at, weights, count, y,
                                               n);
  } else {
    sample<std::uint16_t, pick_half<from_bf16>>(static_cast<const std::uint16_t*>(x), at, weights, count, y,
                                                n);
  }
}

}  // namespace

void fill_sampling(Micro& micro) {
  micro.grid_taps = grid_taps;
  micro.join_taps = join_taps;
  micro.sample_cells = sample_cells;
}

}  // namespace npu::cpu::NPU_ISA
