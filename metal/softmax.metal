// Softmax and its logarithm along one axis. Dense rows that fit are kept in registers; others are read twice,
// by a thread, a simdgroup or a threadgroup; few very long ones in parts by several threadgroups.
#include "rows.h"

constant bool kLog [[function_constant(kFcSoftmaxLog)]];
constant bool kParts [[function_constant(kFcSoftmaxParts)]];  // reads the peaks from softmax_peaks

// The greatest of some numbers, and the sum of the exponentials of how far they are below it.
struct Peak {
  float most;
  float sum;
};

static_assert(sizeof(Peak) == kPeakBytes, "as in the scratch");

template <typename Shuffle>
inline Peak moved(Peak a, Shuffle shuffle) {
  return {shuffle(a.most), shuffle(a.sum)};
}

struct Peaks {
  using Acc = Peak;
  static Acc none() { return {-INFINITY, 0.0f}; }
  static Acc merge(Acc a, Acc b) {
    const float most = nan_max(a.most, b.most);
    if (most == -INFINITY) return none();
    return {most, a.sum * precise::exp(a.most - most) + b.sum * precise::exp(b.most - most)};
  }
  static Acc add(Acc a, float x) {
    if (x <= a.most) {
      if (x != -INFINITY) a.sum += precise::exp(x - a.most);
      return a;
    }
    // Of NaN and infinity everything becomes NaN.
    return {x, a.sum * precise::exp(a.most - x) + (1.0f + (x - x))};
  }
};

struct Most {
  using Acc = float;
  static Acc none() { return -INFINITY; }
  static Acc merge(Acc a, Acc b) { return nan_max(a, b); }
};

struct Plain {
  using Acc = float;
  static Acc none() { return 0.0f; }
  static Acc merge(Acc a, Acc b) { return a + b; }
};

template <typename T>
[[kernel]] void softmax_dense(constant SoftmaxArgs& args [[buffer(kBufferArgs)]],
                              const device T* x [[buffer(kBufferX)]], device T* y [[buffer(kBufferY)]],
                              uint group [[threadgroup_position_in_grid]],
                              uint simdgroup [[simdgroup_index_in_threadgroup]],
                              uint simdgroups [[simdgroups_per_threadgroup]],
                              uint lane [[thread_index_in_simdgroup]]) {
  threadgroup float room[kSimd];
  const Seat seat = seat_of(group, simdgroup, simdgroups, lane);
  if (seat.row >= uint(args.count)) return;  // who shares a row leaves together
  const Offsets<2> at = walk(args.rows, seat.row);
  const uint n = uint(args.n);
  float4 row[kMostRowVectors];
  load_row(x + at.of[1], n, seat, -INFINITY, row);
  float most = -INFINITY;
  for (int v = 0; v < kMostRowVectors; ++v) {
    if (v < kVectors) most = nan_max(nan_max(nan_max(row[v].x, row[v].y), nan_max(row[v].z, row[v].w)), most);
  }
  most = across_row<Most>(most, room, seat);
  float sum = 0.0f;
  for (int v = 0; v < kMostRowVectors; ++v) {
    if (v >= kVectors || element_of(seat, v) >= n) continue;
    row[v] -= most;
    const float4 part = precise::exp(row[v]);
    sum += (part.x + part.y) + (part.z + part.w);
    if (!kLog) row[v] = part;
  }
  sum = across_row<Plain>(sum, room, seat);
  const float scale = 1.0f / sum, shift = kLog ? precise::log(sum) : 0.0f;
  for (int v = 0; v < kMostRowVectors; ++v) {
    const uint i = element_of(seat, v);
    if (v < kVectors && i < n) store_some(y + at.of[0], i, n, kLog ? row[v] - shift : row[v] * scale);
  }
}

template <typename T>
inline Peak peak_of(const device T* x, int64_t step, uint first, uint by, uint end) {
  Peak peak = Peaks::none();
  for (uint i = first; i < end; i += by) peak = Peaks::add(peak, float(x[i * step]));
  return peak;
}

// Of each part of a row, into peaks[row * parts + part].
template <typename T>
[[kernel]] void softmax_peaks(constant SoftmaxArgs& args [[buffer(kBufferArgs)]],
                              const device T* x [[buffer(kBufferX)]],
                              device Peak* peaks [[buffer(kBufferSoftmaxPeaks)]],
                              uint2 group [[threadgroup_position_in_grid]],
                              uint simdgroup [[simdgroup_index_in_threadgroup]],
                              uint simdgroups [[simdgroups_per_threadgroup]],
                              uint lane [[thread_index_in_simdgroup]]) {
  threadgroup Peak room[kSimd];
  if (group.x >= uint(args.count) || group.y >= uint(args.parts)) return;
  const uint begin = group.y * uint(args.part), end = min(begin + uint(args.part), uint(args.n));
  const uint thread_at = simdgroup * kSimd + lane;
  Peak peak =
      peak_of(x + walk(args.rows, group.x).of[1], args.x_step, begin + thread_at, simdgroups * kSimd, end);
  peak = across_group<Peaks>(peak, room, lane, simdgroup, simdgroups);
  if (thread_at == 0) peaks[group.x * uint(args.parts) + group.y] = peak;
}

template <typename T>
[[kernel]] void softmax_any(constant SoftmaxArgs& args [[buffer(kBufferArgs)]],
                            const device T* x [[buffer(kBufferX)]], device T* y [[buffer(kBufferY)]],
                            const device Peak* peaks
                            [[buffer(kBufferSoftmaxPeaks), function_constant(kParts)]],
                            uint2 group [[threadgroup_position_in_grid]],
                            uint simdgroup [[simdgroup_index_in_threadgroup]],
                            uint simdgroups [[simdgroups_per_threadgroup]],
                            uint lane [[thread_index_in_simdgroup]]) {
  threadgroup Peak room[kSimd];
  const Seat seat = seat_of(group.x, simdgroup, simdgroups, lane);
  if (seat.row >= uint(args.count)) return;  // who shares a row leaves together
  const Offsets<2> at = walk(args.rows, seat.row);
  const device T* from = x + at.of[1];
  Peak peak = Peaks::none();
  if (kParts) {
    for (uint p = seat.index; p < uint(args.parts); p += seat.threads) {
      peak = Peaks::merge(peak, peaks[seat.row * uint(args.parts) + p]);
    }
  } else {
    peak = peak_of(from, args.x_step, seat.index, seat.threads, uint(args.n));
  }
  peak = across_row<Peaks>(peak, room, seat);
  const float scale = 1.0f / peak.sum, shift = kLog ? precise::log(peak.sum) : 0.0f;
  const uint begin = group.y * uint(args.part), end = min(begin + uint(args.part), uint(args.n));
  for (uint i = begin + seat.index; i < end; i += seat.threads) {
    const float above = float(from[i * args.x_step]) - peak.most;
    y[at.of[0] + i * args.y_step] = T(kLog ? above - shift : precise::exp(above) * scale);
  }
}

NPU_INSTANTIATE_FLOATS(softmax_dense)
NPU_INSTANTIATE_FLOATS(softmax_peaks)
NPU_INSTANTIATE_FLOATS(softmax_any)
