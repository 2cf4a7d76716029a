// Elements of x that index operands choose. Indices out of range are reported and give zero.
#include "indexed.h"

// Whole rows, whose neighbours are neighbours in both.
constant bool kDense [[function_constant(kFcGatherDense)]];

template <typename T>
[[kernel]] void gather(constant GatherArgs& args [[buffer(kBufferArgs)]],
                       const device T* x [[buffer(kBufferX)]], device T* out [[buffer(kBufferY)]],
                       device Status* status [[buffer(kBufferIndexedStatus)]], NPU_INDICES,
                       uint2 at [[thread_position_in_grid]]) {
  const Indices indices = NPU_ALL_INDICES;
  const uint inner = inner_of(args.nest);
  const uint many = kDense ? Words<T>::kMany : 1;
  const uint first = at.x * many;
  if (first >= inner || at.y >= uint(args.nest.rows)) return;
  Offsets<kOperands> offsets = walk_row(args.nest, at.y, 2 + kAxes);
  if (!kDense) {
    for (int k = 0; k < 2 + kAxes; ++k) offsets.of[k] += int64_t(first) * step_of(args.nest, k);
  }
  device T* to = out + offsets.of[0];
  int64_t from = offsets.of[1];
  const bool valid = add_indexed(args.axes, indices, offsets, status, from);
  if (!kDense) {
    *to = valid ? x[from] : T(0);
  } else if (valid && first + many <= inner) {
    Words<T>::copy_many(to + first, x + from + first);
  } else {
    for (uint i = first; i < min(first + many, inner); ++i) to[i] = valid ? x[from + i] : T(0);
  }
}

NPU_INSTANTIATE_WORDS(gather)
