// Sorting along one axis, and the first of a sorted row. Blocks that fit into threadgroup memory are sorted
// there; longer rows are sorted in blocks, whose runs are then merged two by two, or of which only the first
// items go on to the next round. Items carry their index, so that no two are equal and any order is stable.
#include "fold.h"

constant bool kDescending [[function_constant(kFcSortDescending)]];
constant bool kHasValues [[function_constant(kFcSortHasValues)]];
constant bool kHasIndices [[function_constant(kFcSortHasIndices)]];
constant bool kFirst [[function_constant(kFcSortFirst)]];  // items come from x, else from a buffer
constant bool kLast [[function_constant(kFcSortLast)]];    // results are written, else items
constant bool kReadsItems = !kFirst;
constant bool kReadsX = kFirst || (kLast && kHasValues);
constant bool kWritesItems = !kLast;
constant bool kWritesValues = kLast && kHasValues;
constant bool kWritesIndices = kLast && kHasIndices;

struct WideItem {
  ulong key;
  ulong index;
};

// Keys are unsigned numbers in the order of the elements, NaN last. Narrow ones share a word with the index.
template <typename T>
struct Items {
  using Item = ulong;
  static constant constexpr uint kMost = kSortBlock;
  static Item last() { return ~0ul; }
  static Item make(uint key, uint index) { return ulong(kDescending ? ~key : key) << 32 | index; }
  static bool less(Item a, Item b) { return a < b; }
  static uint index(Item a) { return uint(a); }
};
template <>
struct Items<long> {
  using Item = WideItem;
  static constant constexpr uint kMost = kSortWideBlock;
  static Item last() { return {~0ul, ~0ul}; }
  static Item make(ulong key, uint index) { return {kDescending ? ~key : key, index}; }
  static bool less(Item a, Item b) { return a.key != b.key ? a.key < b.key : a.index < b.index; }
  static uint index(Item a) { return uint(a.index); }
};

inline uint key_of(float number) {
  if (isnan(number)) return 0xffffffffu;
  const uint bits = number == 0.0f ? 0u : as_type<uint>(number);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}
inline uint key_of(half number) { return key_of(float(number)); }
inline uint key_of(bfloat number) { return key_of(float(number)); }
inline ulong key_of(long number) { return ulong(number) ^ 0x8000000000000000ul; }
template <typename T>
inline uint key_of(T number) {
  return uint(int(number)) ^ 0x80000000u;
}

template <typename T>
using Item = typename Items<T>::Item;
static_assert(sizeof(Item<int>) == kSortItemBytes && sizeof(Item<long>) == kSortWideItemBytes,
              "as in scratch");

#define NPU_SORT_BUFFERS                                                                         \
  constant SortArgs &args [[buffer(kBufferArgs)]],                                               \
      const device T *x [[buffer(kBufferX), function_constant(kReadsX)]],                        \
      device T *values [[buffer(kBufferSortValues), function_constant(kWritesValues)]],          \
      device int64_t *indices [[buffer(kBufferSortIndices), function_constant(kWritesIndices)]], \
      const device Item<T>*in [[buffer(kBufferSortFrom), function_constant(kReadsItems)]]

template <typename T>
inline void write(constant SortArgs& args, const device T* x, device T* values, device int64_t* indices,
                  uint row, uint position, Item<T> item) {
  const Offsets<3> at = walk(args.rows, row);
  const uint index = Items<T>::index(item);
  if (kHasValues) values[at.of[1] + position * args.values_step] = x[at.of[0] + index * args.x_step];
  if (kHasIndices) indices[at.of[2] + position * args.indices_step] = int64_t(index);
}

// Sorts a block of a row; its first `keep` items go on.
template <typename T>
[[kernel]] void sort_blocks(NPU_SORT_BUFFERS,
                            device Item<T>* out [[buffer(kBufferSortTo), function_constant(kWritesItems)]],
                            uint2 group [[threadgroup_position_in_grid]],
                            uint2 thread_at [[thread_position_in_threadgroup]],
                            uint2 threads [[threads_per_threadgroup]]) {
  threadgroup Item<T> room[Items<T>::kMost];
  const uint run = uint(args.run), n = uint(args.n), first = group.x * run, row = group.y;
  if (row >= uint(args.count) || first >= n) return;
  const int64_t from = kFirst ? walk(args.rows, row).of[0] : int64_t(row) * n;
  for (uint i = thread_at.x; i < run; i += threads.x) {
    const uint at = first + i;
    Item<T> item = Items<T>::last();
    if (at < n) {
      if (kFirst) {
        item = Items<T>::make(key_of(x[from + at * args.x_step]), at);
      } else {
        item = in[from + at];
      }
    }
    room[i] = item;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint size = 2; size <= run; size *= 2) {
    for (uint distance = size / 2; distance > 0; distance /= 2) {
      for (uint pair = thread_at.x; pair < run / 2; pair += threads.x) {
        const uint a = pair + (pair & ~(distance - 1)), b = a + distance;
        const Item<T> low = room[a], high = room[b];
        const bool up = (a & size) == 0;
        if (Items<T>::less(high, low) == up) {
          room[a] = high;
          room[b] = low;
        }
      }
      threadgroup_barrier(mem_flags::mem_threadgroup);
    }
  }
  const uint keep = uint(args.keep), blocks = (n + run - 1) / run;
  for (uint i = thread_at.x; i < keep; i += threads.x) {
    if (kLast) {
      write(args, x, values, indices, row, i, room[i]);
    } else if (keep < run) {
      out[(int64_t(row) * blocks + group.x) * keep + i] = room[i];
    } else if (first + i < n) {
      out[int64_t(row) * n + first + i] = room[i];
    }
  }
}

// Merges neighbouring runs of a row.
template <typename T>
[[kernel]] void sort_merge(constant SortArgs& args [[buffer(kBufferArgs)]],
                           const device Item<T>* in [[buffer(kBufferSortFrom)]],
                           device Item<T>* out [[buffer(kBufferSortTo)]],
                           uint2 at [[thread_position_in_grid]]) {
  const uint n = uint(args.n), run = uint(args.run), first = at.x * kSortMerged;
  if (first >= n || at.y >= uint(args.count)) return;
  const device Item<T>* from = in + int64_t(at.y) * n;
  device Item<T>* to = out + int64_t(at.y) * n;
  const uint begin = first - first % (2 * run), skip = first - begin;
  const uint middle = min(begin + run, n), end = min(middle + run, n);
  // How many of the `skip` items before this thread's come from the first run.
  uint least = skip > end - middle ? skip - (end - middle) : 0, most = min(skip, middle - begin);
  while (least < most) {
    const uint half_way = (least + most) / 2;
    if (Items<T>::less(from[begin + half_way], from[middle + skip - 1 - half_way])) {
      least = half_way + 1;
    } else {
      most = half_way;
    }
  }
  uint a = begin + least, b = middle + skip - least;
  for (uint i = first; i < min(first + kSortMerged, end); ++i) {
    const bool take_a = b >= end || (a < middle && Items<T>::less(from[a], from[b]));
    to[i] = take_a ? from[a] : from[b];
    a += take_a ? 1 : 0;
    b += take_a ? 0 : 1;
  }
}

// Writes the first items of sorted rows.
template <typename T>
[[kernel]] void sort_finish(NPU_SORT_BUFFERS, uint2 at [[thread_position_in_grid]]) {
  if (at.x >= uint(args.keep) || at.y >= uint(args.count)) return;
  write(args, x, values, indices, at.y, at.x, in[int64_t(at.y) * args.n + at.x]);
}

NPU_INSTANTIATE_ALL(sort_blocks)
NPU_INSTANTIATE_ALL(sort_merge)
NPU_INSTANTIATE_ALL(sort_finish)
