// What all kernels share: walking strided operands, reductions, instantiation.
#pragma once

#include <metal_stdlib>
using namespace metal;

#include "args.h"

constant constexpr uint kSimd = 32;  // threads of a simdgroup on every Apple GPU

// Offsets of both operands at element `index` of the nest, in elements.
struct Offsets2 {
  int64_t first;
  int64_t second;
};

inline Offsets2 walk(constant Nest2& nest, uint index) {
  Offsets2 at = {0, 0};
  for (int d = nest.rank - 1; d >= 0; --d) {
    const uint extent = uint(nest.extent[d]);
    const int64_t i = int64_t(index % extent);
    index /= extent;
    at.first += i * nest.first[d];
    at.second += i * nest.second[d];
  }
  return at;
}

// NaN wins, as in PyTorch; Metal's max and simd_max prefer the number.
template <typename T>
inline T nan_max(T a, T b) {
  return a > b || a != a ? a : b;
}

inline float simd_nan_max(float x) {
  const bool any_nan = simd_any(isnan(x));
  return any_nan ? NAN : simd_max(x);
}

// One value for all threads of a threadgroup, from one per simdgroup. `room` has 32 elements; it may be used
// again after the next barrier.
template <typename Op>
inline float across_simdgroups(float of_simdgroup, float neutral, Op op, threadgroup float* room, uint lane,
                               uint simdgroup, uint simdgroups) {
  if (lane == 0) room[simdgroup] = of_simdgroup;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const float result = op(lane < simdgroups ? room[lane] : neutral);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  return result;
}

struct SimdSum {
  float operator()(float x) const { return simd_sum(x); }
};
struct SimdMax {
  float operator()(float x) const { return simd_nan_max(x); }
};

// kernel<T> as "name_T".
#define NPU_INSTANTIATE(kernel, T) \
  template [[host_name(#kernel "_" #T)]] [[kernel]] decltype(kernel<T>) kernel<T>;
#define NPU_INSTANTIATE_FLOATS(kernel) \
  NPU_INSTANTIATE(kernel, float)       \
  NPU_INSTANTIATE(kernel, half)        \
  NPU_INSTANTIATE(kernel, bfloat)
