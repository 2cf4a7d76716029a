// What generated map kernels (cpp/gpu/ops/map.cpp) call: four neighbours at a time, and where a row of them
// lies.
#pragma once

#include "expression.h"
#include "nest.h"

// The packed types need no more alignment than an element has. Bools are moved as the bytes they are.
#define NPU_FOURS(T)                                                                               \
  inline vec<T, 4> four(const device T* x) { return vec<T, 4>(*(const device packed_##T##4 *)x); } \
  inline void put_four(device T* y, vec<T, 4> x) { *(device packed_##T##4 *)y = packed_##T##4(x); }
NPU_FOURS(float)
NPU_FOURS(half)
NPU_FOURS(bfloat)
NPU_FOURS(char)
NPU_FOURS(short)
NPU_FOURS(int)
NPU_FOURS(long)
NPU_FOURS(uchar)
#undef NPU_FOURS

// Offset of an operand in the row of a thread: y counts the dimension before the inner one, z those before.
template <int kRank, int N>
inline int64_t row_offset(constant MapArgs<N>& args, int operand, uint3 at) {
  if (kRank == 1) return args.first[operand];
  int64_t offset = args.first[operand] + int64_t(at.y) * args.nest.step[operand][kRank > 1 ? kRank - 2 : 0];
  uint rest = at.z;
  for (int d = kRank - 3; d > 0; --d) {
    const uint extent = uint(args.nest.extent[d]);
    offset += int64_t(rest % extent) * args.nest.step[operand][d];
    rest /= extent;
  }
  return kRank > 2 ? offset + int64_t(rest) * args.nest.step[operand][0] : offset;
}

// Whether the grid's y and z are rows of the nest.
template <int kRank, int N>
inline bool has_row(constant MapArgs<N>& args, uint3 at) {
  if (kRank == 1) return at.y == 0 && at.z == 0;
  const uint lines = uint(args.nest.extent[kRank > 1 ? kRank - 2 : 0]);
  return at.y < lines && at.z < uint(args.nest.rows) / lines;
}
