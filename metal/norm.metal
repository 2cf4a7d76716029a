// Layer, RMS and group norms: a row of what is normalised together by a simdgroup or a threadgroup. Rows that
// are dense and fit are kept in registers; others are read twice.
#include "fold.h"

constant bool kRms [[function_constant(0)]];
constant bool kBySimd [[function_constant(1)]];  // a simdgroup for a row, else a threadgroup
constant int kWeight [[function_constant(2)]];   // 0: none, 1: as x, 2: float
constant int kBias [[function_constant(3)]];
constant int kVectors [[function_constant(4)]];  // of four elements, that a thread keeps

constant bool kHasWeight = kWeight > 0;
constant bool kHasBias = kBias > 0;

// Where a thread is, and how rows are shared.
struct Seat {
  uint row;
  uint index;    // of the thread, of those that share the row
  uint threads;  // that share it
  uint lane, simdgroup, simdgroups;
};

inline Seat seat_of(uint group, uint simdgroup, uint simdgroups, uint lane) {
  if (kBySimd) return {group * simdgroups + simdgroup, lane, kSimd, lane, simdgroup, simdgroups};
  return {group, simdgroup * kSimd + lane, simdgroups * kSimd, lane, simdgroup, simdgroups};
}

template <typename Fold>
inline typename Fold::Acc across_row(typename Fold::Acc a, threadgroup typename Fold::Acc* room, Seat seat) {
  if (kBySimd) return across_lanes<Fold>(a);
  return across_group<Fold>(a, room, seat.lane, seat.simdgroup, seat.simdgroups);
}

template <typename T>
inline float parameter(const device char* from, int kind, int64_t at) {
  return kind == 2 ? ((const device float*)from)[at] : float(((const device T*)from)[at]);
}
template <typename T>
inline float4 parameters(const device char* from, int kind, int64_t at) {
  return kind == 2 ? load4((const device float*)from + at) : load4((const device T*)from + at);
}

inline float scale_of(float squares, constant NormArgs& args) {
  return 1.0f / precise::sqrt(squares / float(args.n) + args.eps);
}

constant constexpr int kMostVectors = 4;

// Rows whose elements lie one after the other in x, y, weight and bias.
template <typename T>
[[kernel]] void norm_dense(constant NormArgs& args [[buffer(0)]], const device T* x [[buffer(1)]],
                           device T* y [[buffer(2)]],
                           const device char* weight [[buffer(3), function_constant(kHasWeight)]],
                           const device char* bias [[buffer(4), function_constant(kHasBias)]],
                           uint group [[threadgroup_position_in_grid]],
                           uint simdgroup [[simdgroup_index_in_threadgroup]],
                           uint simdgroups [[simdgroups_per_threadgroup]],
                           uint lane [[thread_index_in_simdgroup]]) {
  threadgroup Exact room[kSimd];
  const Seat seat = seat_of(group, simdgroup, simdgroups, lane);
  if (seat.row >= uint(args.count)) return;  // whole simdgroups leave, or the threadgroup
  const Places<4> at = walk(args.rows, seat.row);
  const uint n = uint(args.n);
  float4 kept[kMostVectors];
  Exact sum = exact(0.0f);
  for (int v = 0; v < kVectors; ++v) {
    const uint i = 4 * (seat.index + uint(v) * seat.threads);
    kept[v] = float4(0.0f);
    if (i + 4 <= n) {
      kept[v] = load4(x + at.of[1] + i);
    } else {
      for (uint k = 0; i + k < n; ++k) kept[v][k] = float(x[at.of[1] + i + k]);
    }
    if (!kRms) sum = plus(sum, exact((kept[v].x + kept[v].y) + (kept[v].z + kept[v].w)));
  }
  if (!kRms) sum = across_row<Sum<float>>(sum, room, seat);
  const float mean = value_of(sum) / float(n);
  Exact squares = exact(0.0f);
  for (int v = 0; v < kVectors; ++v) {
    const uint i = 4 * (seat.index + uint(v) * seat.threads);
    if (!kRms) kept[v] -= mean;
    for (uint k = 0; k < 4 && i + k < n; ++k) squares = plus(squares, exact(kept[v][k] * kept[v][k]));
  }
  squares = across_row<Sum<float>>(squares, room, seat);
  const float scale = scale_of(value_of(squares), args);
  for (int v = 0; v < kVectors; ++v) {
    const uint i = 4 * (seat.index + uint(v) * seat.threads);
    if (i + 4 <= n) {
      float4 result = kept[v] * scale;
      if (kHasWeight) result *= parameters<T>(weight, kWeight, i);
      if (kHasBias) result += parameters<T>(bias, kBias, i);
      store4(y + at.of[0] + i, result);
    } else {
      for (uint k = 0; i + k < n; ++k) {
        float result = kept[v][k] * scale;
        if (kHasWeight) result *= parameter<T>(weight, kWeight, i + k);
        if (kHasBias) result += parameter<T>(bias, kBias, i + k);
        y[at.of[0] + i + k] = T(result);
      }
    }
  }
}

// Any rows.
template <typename T>
[[kernel]] void norm_any(constant NormArgs& args [[buffer(0)]], const device T* x [[buffer(1)]],
                         device T* y [[buffer(2)]],
                         const device char* weight [[buffer(3), function_constant(kHasWeight)]],
                         const device char* bias [[buffer(4), function_constant(kHasBias)]],
                         uint group [[threadgroup_position_in_grid]],
                         uint simdgroup [[simdgroup_index_in_threadgroup]],
                         uint simdgroups [[simdgroups_per_threadgroup]],
                         uint lane [[thread_index_in_simdgroup]]) {
  threadgroup Spread room[kSimd];
  const Seat seat = seat_of(group, simdgroup, simdgroups, lane);
  if (seat.row >= uint(args.count)) return;  // whole simdgroups leave, or the threadgroup
  const Places<4> at = walk(args.rows, seat.row);
  const uint n = uint(args.n);
  const device T* from = x + at.of[1];
  const float first = kRms ? 0.0f : float(*from);
  Spread spread = Spreads::none();
  Stepper<4> walk_in(args.elements, seat.index, seat.threads);
  for (uint i = seat.index; i < n; i += seat.threads) {
    spread = Spreads::add(spread, float(from[walk_in.place(args.elements, 1)]) - first, i);
    walk_in.advance(args.elements);
  }
  spread = across_row<Spreads>(spread, room, seat);
  const Exact mean = kRms ? exact(0.0f) : plus(mean_of(spread, float(n)), exact(first));
  const float squares = kRms ? value_of(spread.squares) : squares_around_mean(spread, float(n));
  const float scale = scale_of(squares, args);
  Stepper<4> again(args.elements, seat.index, seat.threads);
  for (uint i = seat.index; i < n; i += seat.threads) {
    float result = ((float(from[again.place(args.elements, 1)]) - mean.main) - mean.rest) * scale;
    if (kHasWeight) result *= parameter<T>(weight, kWeight, at.of[2] + again.place(args.elements, 2));
    if (kHasBias) result += parameter<T>(bias, kBias, at.of[3] + again.place(args.elements, 3));
    y[at.of[0] + again.place(args.elements, 0)] = T(result);
    again.advance(args.elements);
  }
}

NPU_INSTANTIATE_FLOATS(norm_dense)
NPU_INSTANTIATE_FLOATS(norm_any)
