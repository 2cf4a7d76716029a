// What an entry passes to a kernel: pointers of whatever type it asks for, and what it asks of threads.
// Kernels are in namespace metal, so that their functions and those of MSL overload each other; these names
// are not in their way.
#pragma once

#include "atomics.h"
#include "bulk.h"
#include "groups.h"
#include "limits.h"
#include "matrix.h"
#include "overlap.h"
#include "tensor.h"

namespace metal::npu {

struct Pointer {
  void* address;
  template <class T>
  NPU_MSL operator T*() const {
    return (T*)address;
  }
};

// A position or size, as the kernel declares it.
struct Position {
  uint x, y, z;
  NPU_MSL operator uint() const { return x; }
  NPU_MSL operator ushort() const { return ushort(x); }
  NPU_MSL operator uint2() const { return uint2(x, y); }
  NPU_MSL operator uint3() const { return uint3(x, y, z); }
  NPU_MSL operator ushort2() const { return ushort2(x, y); }
  NPU_MSL operator ushort3() const { return ushort3(x, y, z); }
};

// The functions are named as the attributes of parameters.
struct Inputs {
  Position group, groups, size;  // of threadgroups

  NPU_MSL Position threadgroup_position_in_grid() const { return group; }
  NPU_MSL Position threadgroups_per_grid() const { return groups; }
  NPU_MSL Position threads_per_threadgroup() const { return size; }
  NPU_MSL Position dispatch_threads_per_threadgroup() const { return size; }
  NPU_MSL Position thread_position_in_threadgroup() const { return {threadIdx.x, threadIdx.y, threadIdx.z}; }
  NPU_MSL Position thread_position_in_grid() const {
    return {group.x * size.x + threadIdx.x, group.y * size.y + threadIdx.y, group.z * size.z + threadIdx.z};
  }
  NPU_MSL Position threads_per_grid() const {
    return {groups.x * size.x, groups.y * size.y, groups.z * size.z};
  }
  NPU_MSL uint thread_index_in_threadgroup() const {
    return threadIdx.x + size.x * (threadIdx.y + size.y * threadIdx.z);
  }
  NPU_MSL uint thread_index_in_simdgroup() const { return thread_index_in_threadgroup() & 31; }
  NPU_MSL uint simdgroup_index_in_threadgroup() const { return thread_index_in_threadgroup() >> 5; }
  NPU_MSL uint threads_per_simdgroup() const { return 32; }
  NPU_MSL uint simdgroups_per_threadgroup() const { return (size.x * size.y * size.z + 31) >> 5; }
  NPU_MSL uint thread_index_in_quadgroup() const { return thread_index_in_threadgroup() & 3; }
  NPU_MSL uint quadgroup_index_in_threadgroup() const { return thread_index_in_threadgroup() >> 2; }
};

NPU_MSL Position block_size() { return {blockDim.x, blockDim.y, blockDim.z}; }
NPU_MSL Inputs inputs_of_grid(Position size) {
  return {{blockIdx.x, blockIdx.y, blockIdx.z}, {gridDim.x, gridDim.y, gridDim.z}, size};
}
// Of a grid that is launched as a line, since CUDA has at most 65535 blocks along y and z.
NPU_MSL Inputs inputs_of_line(Position size, uint across, uint down, uint deep) {
  const uint line = blockIdx.x / across;
  return {{blockIdx.x - line * across, line % down, line / down}, {across, down, deep}, size};
}

}  // namespace metal::npu
