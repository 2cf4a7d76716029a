// What all kernels share.
#pragma once

#include <metal_stdlib>
using namespace metal;

#include "args.h"
#include "constants.h"

// Before it a kernel reads nothing but what no launch writes. On NVIDIA's GPUs it begins while the launch
// before it still runs; a library that says this once has it on the way of every kernel.
#ifdef NPU_CUDA
#define NPU_INPUTS_READY npu::wait_for_inputs()
#else
#define NPU_INPUTS_READY ((void)0)
#endif

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
