// Copies between any strides: rows along the output's memory, or tiles where input and output have
// different innermost dimensions.
#include "nest.h"

constant bool kDense [[function_constant(kFcCopyDense)]];  // rows whose neighbours are neighbours in both

// One thread for an element, or for a few neighbours of dense rows.
template <typename T>
[[kernel]] void copy_rows(constant CopyArgs& args [[buffer(kBufferArgs)]],
                          const device T* x [[buffer(kBufferX)]], device T* y [[buffer(kBufferY)]],
                          uint2 at [[thread_position_in_grid]]) {
  const uint inner = inner_of(args.nest);
  const uint many = kDense ? Words<T>::kMany : 1;
  const uint first = at.x * many;
  if (first >= inner || at.y >= uint(args.nest.rows)) return;
  const Offsets<2> row = walk_row(args.nest, at.y);
  if (!kDense) {
    y[args.y_first + row.of[0] + int64_t(first) * step_of(args.nest, 0)] =
        x[args.x_first + row.of[1] + int64_t(first) * step_of(args.nest, 1)];
    return;
  }
  device T* to = y + args.y_first + row.of[0];
  const device T* from = x + args.x_first + row.of[1];
  if (first + many <= inner) return Words<T>::copy_many(to + first, from + first);
  for (uint i = first; i < inner; ++i) to[i] = from[i];
}

// A tile is read along what is innermost in x and written along what is innermost in y.
template <typename T>
[[kernel]] void copy_transposed(constant TransposeArgs& args [[buffer(kBufferArgs)]],
                                const device T* x [[buffer(kBufferX)]], device T* y [[buffer(kBufferY)]],
                                uint3 group [[threadgroup_position_in_grid]],
                                uint3 thread_at [[thread_position_in_threadgroup]],
                                uint3 threads [[threads_per_threadgroup]]) {
  threadgroup T tile[kCopyTile][kCopyTile + 1];
  if (group.z >= uint(args.rest.rows) * inner_of(args.rest)) return;
  const Offsets<2> rest = walk(args.rest, group.z);
  const uint across = group.x * kCopyTile, down = group.y * kCopyTile;
  const device T* from = x + args.x_first + rest.of[1] + across * args.x_across + down * args.x_down;
  for (uint a = thread_at.y; a < kCopyTile; a += threads.y) {
    if (across + a < uint(args.across) && down + thread_at.x < uint(args.down)) {
      tile[a][thread_at.x] = from[int64_t(a) * args.x_across + int64_t(thread_at.x) * args.x_down];
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  device T* to = y + args.y_first + rest.of[0] + across * args.y_across + down * args.y_down;
  for (uint d = thread_at.y; d < kCopyTile; d += threads.y) {
    if (across + thread_at.x < uint(args.across) && down + d < uint(args.down)) {
      to[int64_t(thread_at.x) * args.y_across + int64_t(d) * args.y_down] = tile[thread_at.x][d];
    }
  }
}

NPU_INSTANTIATE_WORDS(copy_rows)
NPU_INSTANTIATE_WORDS(copy_transposed)
