// What all kernels share.
#pragma once

#include <metal_stdlib>
using namespace metal;

#include "args.h"
#include "constants.h"

// For loops whose counter indexes what must stay in registers.
#define NPU_UNROLL _Pragma("clang loop unroll(full)")

// NaN wins, as in PyTorch; Metal's max and simd_max prefer the number.
template <typename T>
inline T nan_max(T a, T b) {
  return a > b || a != a ? a : b;
}

// kernel<T> as "name_T".
#define NPU_INSTANTIATE(kernel, T) \
  template [[host_name(#kernel "_" #T)]] [[kernel]] decltype(kernel<T>) kernel<T>;
#define NPU_INSTANTIATE_FLOATS(kernel) \
  NPU_INSTANTIATE(kernel, float)       \
  NPU_INSTANTIATE(kernel, half)        \
  NPU_INSTANTIATE(kernel, bfloat)
