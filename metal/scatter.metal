// Updates of the elements that index operands choose, in order: each thread owns elements that no other one
// updates, and applies their updates one after the other. Along dimensions where updates may meet, a thread
// goes through all of them; where they are many, they are sorted by target first, and a thread goes through
// those of one target. Indices out of range are reported and skipped.
#include "indexed.h"

// Whole rows, whose neighbours are neighbours in both.
constant bool kDense [[function_constant(kFcScatterDense)]];
constant int kKind [[function_constant(kFcScatterKind)]];  // ScatterKind

constant bool kSorted [[function_constant(kFcScatterSorted)]];  // items say which updates meet

// As in sort.metal. The key is the position along the indexed axes.
struct ScatterItem {
  ulong key;
  ulong update;
};
constant constexpr ulong kNowhere = ~0ul;

template <typename T>
struct Set {
  static constant constexpr uint kMany = Words<T>::kMany;
  static constant constexpr bool kLastWins = true;
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
  static constant constexpr bool kLastWins = false;
  static void one(device T* out, const device T* update) { *out = combined_as(*out, *update); }
  static void many(device T* out, const device T* update) { one(out, update); }
};

// Update `u` of what a thread owns; `many` neighbours.
template <typename T, typename Apply>
inline void apply(constant ScatterArgs& args, const device T* updates, device T* out, device Status* status,
                  Indices indices, Offsets<kOperands> own, uint u, uint many) {
  Offsets<kOperands> offsets = walk(args.free, u, 2 + kAxes);
  for (int k = 0; k < 2 + kAxes; ++k) offsets.of[k] += own.of[k];
  int64_t to = offsets.of[0];
  if (!add_indexed(args.axes, indices, offsets, status, to)) return;
  const device T* from = updates + offsets.of[1];
  if (many == (kDense ? Apply::kMany : 1)) return Apply::many(out + to, from);
  for (uint i = 0; i < many; ++i) Apply::one(out + to + i, from + i);
}

inline Offsets<kOperands> owned(constant ScatterArgs& args, uint column, uint row) {
  Offsets<kOperands> own = walk_row(args.kept, row, 2 + kAxes);
  for (int k = 0; k < 2 + kAxes; ++k) {
    own.of[k] += int64_t(column) * (kDense && k < 2 ? 1 : step_of(args.kept, k));
  }
  return own;
}

template <typename T, typename Apply>
[[kernel]] void scatter(constant ScatterArgs& args [[buffer(kBufferArgs)]],
                        const device T* updates [[buffer(kBufferX)]], device T* out [[buffer(kBufferY)]],
                        device Status* status [[buffer(kBufferIndexedStatus)]], NPU_INDICES,
                        const device ScatterItem* items
                        [[buffer(kBufferScatterItems), function_constant(kSorted)]],
                        uint3 at [[thread_position_in_grid]]) {
  const Indices indices = NPU_ALL_INDICES;
  const uint inner = inner_of(args.kept), first = at.x * (kDense ? Apply::kMany : 1);
  if (first >= inner || at.y >= uint(args.kept.rows)) return;
  const uint many = min(kDense ? Apply::kMany : 1, inner - first), count = uint(args.updates);
  const Offsets<kOperands> own = owned(args, first, at.y);
  if (!kSorted) {
    for (uint u = 0; u < count; ++u) apply<T, Apply>(args, updates, out, status, indices, own, u, many);
    return;
  }
  if (at.z >= count) return;
  const device ScatterItem* row = items;
  if (args.lists > 1) row += (int64_t(at.y) * inner + first) * count;
  const ulong key = row[at.z].key;
  if (key == kNowhere) return;
  if (Apply::kLastWins) {
    if (at.z + 1 < count && row[at.z + 1].key == key) return;
    return apply<T, Apply>(args, updates, out, status, indices, own, uint(row[at.z].update), many);
  }
  if (at.z > 0 && row[at.z - 1].key == key) return;
  for (uint i = at.z; i < count && row[i].key == key; ++i) {
    apply<T, Apply>(args, updates, out, status, indices, own, uint(row[i].update), many);
  }
}

// The items of each list, in order: one list, or one for each of what is kept when its indices differ.
[[kernel]] void scatter_items(constant ScatterArgs& args [[buffer(kBufferArgs)]],
                              device ScatterItem* items [[buffer(kBufferScatterItems)]],
                              device Status* status [[buffer(kBufferIndexedStatus)]], NPU_INDICES,
                              uint2 at [[thread_position_in_grid]]) {
  const Indices indices = NPU_ALL_INDICES;
  if (at.x >= uint(args.updates) || at.y >= uint(args.lists)) return;
  const uint inner = inner_of(args.kept), row = at.y / inner;
  const Offsets<kOperands> own = owned(args, at.y - row * inner, row);
  Offsets<kOperands> offsets = walk(args.free, at.x, 2 + kAxes);
  ulong key = 0;
  for (int k = 0; k < kAxes; ++k) {
    const int64_t index = load_index(indices.of[k], offsets.of[2 + k] + own.of[2 + k], args.axes[k].type);
    const int64_t wrapped = kWrap && index < 0 ? index + args.axes[k].extent : index;
    if (wrapped < 0 || wrapped >= args.axes[k].extent) {
      report(status, args.axes[k].dimension, index);
      key = kNowhere;
      break;
    }
    key = key * ulong(args.axes[k].extent) + ulong(wrapped);
  }
  items[int64_t(at.y) * args.updates + at.x] = {key, ulong(at.x)};
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
