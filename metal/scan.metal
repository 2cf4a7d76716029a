// Cumulative sums and products along one axis. Rows that are neighbours advance together, a thread for each;
// others are scanned by a threadgroup, block after block, and long ones in parts by several threadgroups.
#include "fold.h"

constant bool kProduct [[function_constant(kFcScanProduct)]];
constant bool kParts [[function_constant(kFcScanParts)]];  // a row is more than one

template <typename R>
struct Step {
  using Acc = typename Sum<R>::Acc;
  static constant constexpr bool kCentred = false;
  static Acc none() { return kProduct ? Product<R>::none() : Sum<R>::none(); }
  static Acc merge(Acc a, Acc b) { return kProduct ? Product<R>::merge(a, b) : Sum<R>::merge(a, b); }
};

inline Exact carried(float x) { return exact(x); }
inline int64_t carried(int64_t x) { return x; }

// Results: floats of the type that came in, or int64.
template <typename T>
struct Result {
  using type = int64_t;
  static int64_t of(int64_t a) { return a; }
};
#define NPU_RESULT(T)                               \
  template <>                                       \
  struct Result<T> {                                \
    using type = T;                                 \
    static T of(Exact a) { return T(value_of(a)); } \
  };
NPU_RESULT(float)
NPU_RESULT(half)
NPU_RESULT(bfloat)
#undef NPU_RESULT

template <typename T>
using Carried = typename Step<Register<T>>::Acc;
static_assert(sizeof(Carried<float>) == kCarriedBytes && sizeof(Carried<long>) == kCarriedBytes,
              "as in scratch");

template <typename T>
[[kernel]] void scan_columns(constant ScanArgs& args [[buffer(kBufferArgs)]],
                             const device T* x [[buffer(kBufferX)]],
                             device typename Result<T>::type* y [[buffer(kBufferY)]],
                             uint row [[thread_position_in_grid]]) {
  if (row >= uint(args.count)) return;
  const Offsets<2> at = walk(args.rows, row);
  Carried<T> total = Step<Register<T>>::none();
  for (int i = 0; i < args.n; ++i) {
    total = Step<Register<T>>::merge(total, carried(Register<T>(x[at.of[1] + i * args.x_step])));
    y[at.of[0] + i * args.y_step] = Result<T>::of(total);
  }
}

// All of a part, into totals[row * parts + part].
template <typename T>
[[kernel]] void scan_totals(
    constant ScanArgs& args [[buffer(kBufferArgs)]], const device T* x [[buffer(kBufferX)]],
    device Carried<T>* totals [[buffer(kBufferScanTotals)]], uint2 group [[threadgroup_position_in_grid]],
    uint2 thread_at [[thread_position_in_threadgroup]], uint2 threads [[threads_per_threadgroup]],
    uint simdgroup [[simdgroup_index_in_threadgroup]], uint simdgroups [[simdgroups_per_threadgroup]],
    uint lane [[thread_index_in_simdgroup]]) {
  using Fold = Step<Register<T>>;
  threadgroup Carried<T> room[kSimd];
  if (group.y >= uint(args.count) || group.x >= uint(args.parts)) return;
  const device T* from = x + walk(args.rows, group.y).of[1];
  const uint end = min((group.x + 1) * uint(args.part), uint(args.n));
  Carried<T> total = Fold::none();
  for (uint i = group.x * uint(args.part) + thread_at.x; i < end; i += threads.x) {
    total = Fold::merge(total, carried(Register<T>(from[i * args.x_step])));
  }
  total = across_group<Fold>(total, room, lane, simdgroup, simdgroups);
  if (thread_at.x == 0) totals[int64_t(group.y) * args.parts + group.x] = total;
}

// One part of a row, from what the totals of those before it give.
template <typename T>
[[kernel]] void scan_rows(
    constant ScanArgs& args [[buffer(kBufferArgs)]], const device T* x [[buffer(kBufferX)]],
    device typename Result<T>::type* y [[buffer(kBufferY)]],
    const device Carried<T>* totals [[buffer(kBufferScanTotals), function_constant(kParts)]],
    uint2 group [[threadgroup_position_in_grid]], uint2 thread_at [[thread_position_in_threadgroup]],
    uint2 threads [[threads_per_threadgroup]], uint simdgroup [[simdgroup_index_in_threadgroup]],
    uint simdgroups [[simdgroups_per_threadgroup]], uint lane [[thread_index_in_simdgroup]]) {
  using Fold = Step<Register<T>>;
  threadgroup Carried<T> room[kSimd];
  if (group.y >= uint(args.count)) return;
  const Offsets<2> at = walk(args.rows, group.y);
  const device T* from = x + at.of[1];
  const uint begin = group.x * uint(args.part), end = min(begin + uint(args.part), uint(args.n));
  Carried<T> before = Fold::none();
  if (kParts) {
    for (uint p = thread_at.x; p < group.x; p += threads.x) {
      before = Fold::merge(before, totals[int64_t(group.y) * args.parts + p]);
    }
    before = across_group<Fold>(before, room, lane, simdgroup, simdgroups);
  }
  for (uint block = begin; block < end; block += threads.x * kScanEach) {
    const uint first = block + thread_at.x * kScanEach;
    Carried<T> own[kScanEach];
    Carried<T> total = Fold::none();
    for (uint k = 0; k < kScanEach; ++k) {
      const uint i = first + k;
      if (i < end) total = Fold::merge(total, carried(Register<T>(from[i * args.x_step])));
      own[k] = total;
    }
    for (ushort by = 1; by < kSimd; by *= 2) {  // of all lanes so far
      const Carried<T> other = moved(total, ShuffleUp{by});
      if (lane >= by) total = Fold::merge(other, total);
    }
    if (lane == kSimd - 1) room[simdgroup] = total;
    const Carried<T> lower = moved(total, ShuffleUp{1});
    threadgroup_barrier(mem_flags::mem_threadgroup);
    Carried<T> start = before;
    for (uint s = 0; s < simdgroups; ++s) {
      if (s < simdgroup) start = Fold::merge(start, room[s]);
      before = Fold::merge(before, room[s]);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (lane > 0) start = Fold::merge(start, lower);
    for (uint k = 0; k < kScanEach; ++k) {
      const uint i = first + k;
      if (i < end) y[at.of[0] + i * args.y_step] = Result<T>::of(Fold::merge(start, own[k]));
    }
  }
}

NPU_INSTANTIATE_ALL(scan_columns)
NPU_INSTANTIATE_ALL(scan_totals)
NPU_INSTANTIATE_ALL(scan_rows)
