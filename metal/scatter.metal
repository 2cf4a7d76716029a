// Updates of places that index operands choose, in order: each thread owns places that no other one updates,
// and applies what comes to them one after the other. Indices out of range are reported and left out.
#include "indexed.h"

constant bool kDense [[function_constant(2)]];  // whole rows, whose neighbours are neighbours in both
constant int kKind [[function_constant(3)]];    // ScatterKind

template <typename T>
struct Set {
  static constant constexpr uint kMany = Words<T>::kMany;
  static void one(device T* out, const device T* update) { *out = *update; }
  static void many(device T* out, const device T* update) {
    if (kDense) return Words<T>::copy_many(out, update);
    one(out, update);
  }
};

template <typename R>
inline R combined(R old, R update) {
  if (old != old || update != update) return old + update;  // NaN
  switch (ScatterKind(kKind)) {
    case ScatterKind::kAdd:
      return old + update;
    case ScatterKind::kMul:
      return old * update;
    case ScatterKind::kMax:
      return old < update ? update : old;
    default:
      return update < old ? update : old;
  }
}

inline float combined_as(float old, float update) { return combined(old, update); }
inline half combined_as(half old, half update) { return half(combined(float(old), float(update))); }
inline bfloat combined_as(bfloat old, bfloat update) { return bfloat(combined(float(old), float(update))); }
template <typename T>
inline T combined_as(T old, T update) {  // integers, whose sums and products wrap
  const bool order = ScatterKind(kKind) == ScatterKind::kMax || ScatterKind(kKind) == ScatterKind::kMin;
  return order ? T(combined(long(old), long(update))) : T(combined(ulong(old), ulong(update)));
}

template <typename T>
struct Combine {
  static constant constexpr uint kMany = 1;
  static void one(device T* out, const device T* update) { *out = combined_as(*out, *update); }
  static void many(device T* out, const device T* update) { one(out, update); }
};

template <typename T, typename Apply>
[[kernel]] void scatter(constant ScatterArgs& args [[buffer(0)]], const device T* updates [[buffer(1)]],
                        device T* out [[buffer(2)]], device Status* status [[buffer(3)]], NPU_INDICES,
                        uint2 at [[thread_position_in_grid]]) {
  const Indices indices = NPU_ALL_INDICES;
  const uint inner = inner_of(args.kept);
  const uint many = kDense ? Apply::kMany : 1;
  const uint first = at.x * many;
  if (first >= inner || at.y >= uint(args.kept.rows)) return;
  Places<kOperands> own = walk_row(args.kept, at.y, 2 + kAxes);
  for (int k = 0; k < 2 + kAxes; ++k)
    own.of[k] += int64_t(first) * (kDense && k < 2 ? 1 : step_of(args.kept, k));
  for (uint u = 0; u < uint(args.updates); ++u) {
    Places<kOperands> place = walk(args.free, u, 2 + kAxes);
    for (int k = 0; k < 2 + kAxes; ++k) place.of[k] += own.of[k];
    int64_t to = place.of[0];
    if (!add_indexed(args.axes, indices, place, status, to)) continue;
    const device T* from = updates + place.of[1];
    if (first + many <= inner) {
      Apply::many(out + to, from);
    } else {
      for (uint i = 0; i < inner - first; ++i) Apply::one(out + to + i, from + i);
    }
  }
}

#define NPU_SCATTER(kernel, Apply, T) \
  template [[host_name(#kernel "_" #T)]] [[kernel]] decltype(scatter<T, Apply<T>>) scatter<T, Apply<T>>;

NPU_SCATTER(scatter_set, Set, uchar)
NPU_SCATTER(scatter_set, Set, ushort)
NPU_SCATTER(scatter_set, Set, uint)
NPU_SCATTER(scatter_set, Set, ulong)
NPU_SCATTER(scatter_combine, Combine, float)
NPU_SCATTER(scatter_combine, Combine, half)
NPU_SCATTER(scatter_combine, Combine, bfloat)
NPU_SCATTER(scatter_combine, Combine, char)
NPU_SCATTER(scatter_combine, Combine, short)
NPU_SCATTER(scatter_combine, Combine, int)
NPU_SCATTER(scatter_combine, Combine, long)
NPU_SCATTER(scatter_combine, Combine, uchar)
