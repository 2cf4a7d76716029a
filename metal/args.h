// The arguments of every kernel, shared by MSL and C++. A kernel reads them at buffer 0.
//
// Counts of what a grid covers are 32-bit; strides and offsets are 64-bit, in elements. Members are ordered so
// that nothing needs padding; NPU_ARGS asserts the size on both sides. Kernels read members one by one: a
// struct cannot be copied out of the constant address space.
#pragma once

#ifndef __METAL_VERSION__
#include <cstdint>
namespace npu::gpu {
#endif

#define NPU_MAX_RANK 8
#define NPU_ARGS(name, bytes) static_assert(sizeof(name) == bytes, #name " differs between MSL and C++")

// Dimensions walked together by up to two operands, the innermost last; see make_nest.
struct Nest2 {
  int32_t rank;
  int32_t rows;  // of all dimensions but the last
  int32_t extent[NPU_MAX_RANK];
  int64_t first[NPU_MAX_RANK];
  int64_t second[NPU_MAX_RANK];
};
NPU_ARGS(Nest2, 168);

struct SoftmaxArgs {
  Nest2 rows;  // y, x without the axis
  int64_t x_step;
  int64_t y_step;
  int32_t n;
  int32_t count;  // rows in all
};
NPU_ARGS(SoftmaxArgs, 192);

#ifndef __METAL_VERSION__
}  // namespace npu::gpu
#endif
