// Cumulative maxima and minima along one axis, and where they are: a thread for each row, or a simdgroup that
// goes through it a step of neighbours at a time.
#include "fold.h"

constant bool kMaximum [[function_constant(kFcScanExtremeMaximum)]];
constant bool kHasValues [[function_constant(kFcScanExtremeValues)]];
constant bool kHasIndices [[function_constant(kFcScanExtremeIndices)]];

template <typename R>
struct Extreme {
  R value;
  int index;  // -1: of no element
};

// `b` comes later: it wins if equal. NaN comes after everything.
template <typename R>
inline Extreme<R> later(Extreme<R> a, Extreme<R> b) {
  const bool wins = (kMaximum ? b.value >= a.value : b.value <= a.value) || b.value != b.value;
  const bool second = a.index < 0 || (b.index >= 0 && wins);
  return {second ? b.value : a.value, second ? b.index : a.index};
}

struct ShuffleLast {
  float operator()(float x) const { return simd_shuffle(x, ushort(kSimd - 1)); }
  uint operator()(uint x) const { return simd_shuffle(x, ushort(kSimd - 1)); }
};

template <typename R, typename Shuffle>
inline Extreme<R> moved(Extreme<R> a, Shuffle shuffle) {
  return {moved(a.value, shuffle), int(shuffle(uint(a.index)))};
}

template <typename T>
inline void put_extreme(constant ScanExtremeArgs& args, device T* values, device int64_t* indices,
                        Offsets<3> at, int i, Extreme<Register<T>> best) {
  if (kHasValues) values[at.of[1] + i * args.values_step] = T(best.value);
  if (kHasIndices) indices[at.of[2] + i * args.indices_step] = best.index;
}

template <typename T>
[[kernel]] void scan_extreme_columns(constant ScanExtremeArgs& args [[buffer(kBufferArgs)]],
                                     const device T* x [[buffer(kBufferX)]],
                                     device T* values [[buffer(kBufferY), function_constant(kHasValues)]],
                                     device int64_t* indices
                                     [[buffer(kBufferScanIndices), function_constant(kHasIndices)]],
                                     uint row [[thread_position_in_grid]]) {
  if (row >= uint(args.count)) return;
  const Offsets<3> at = walk(args.rows, row);
  Extreme<Register<T>> best = {Register<T>(0), -1};
  for (int i = 0; i < args.n; ++i) {
    best = later(best, {Register<T>(x[at.of[0] + i * args.x_step]), i});
    put_extreme(args, values, indices, at, i, best);
  }
}

template <typename T>
[[kernel]] void scan_extreme_rows(constant ScanExtremeArgs& args [[buffer(kBufferArgs)]],
                                  const device T* x [[buffer(kBufferX)]],
                                  device T* values [[buffer(kBufferY), function_constant(kHasValues)]],
                                  device int64_t* indices
                                  [[buffer(kBufferScanIndices), function_constant(kHasIndices)]],
                                  uint row [[threadgroup_position_in_grid]],
                                  uint lane [[thread_index_in_simdgroup]]) {
  if (row >= uint(args.count)) return;
  const Offsets<3> at = walk(args.rows, row);
  Extreme<Register<T>> before = {Register<T>(0), -1};
  for (int block = 0; block < args.n; block += int(kSimd)) {
    const int i = block + int(lane);
    Extreme<Register<T>> own = {Register<T>(0), -1};
    if (i < args.n) own = {Register<T>(x[at.of[0] + i * args.x_step]), i};
    for (ushort by = 1; by < kSimd; by *= 2) {
      const Extreme<Register<T>> other = moved(own, ShuffleUp{by});
      if (lane >= by) own = later(other, own);
    }
    own = later(before, own);
    if (i < args.n) put_extreme(args, values, indices, at, i, own);
    before = moved(own, ShuffleLast{});
  }
}

NPU_INSTANTIATE_ALL(scan_extreme_columns)
NPU_INSTANTIATE_ALL(scan_extreme_rows)
