// What kernels may count on. Kernel selection depends on nothing else, so it is the same for a chip that is
// here and for one that is only described.
#pragma once

#include <optional>
#include <string>

#include "gpu/device/chip.h"

namespace npu::gpu {

struct Caps {
  std::string name;                  // as people read it
  std::optional<Chip> chip;          // where it is one that we know
  int cores = 8;                     // that run threadgroups
  int threads_per_group = 1024;      // at most
  int threadgroup_bytes = 32 << 10;  // of threadgroup memory, at most
  int simd_width = 32;
  bool matrices = true;  // simdgroup_matrix
  bool bfloat = true;    // as a type of kernels
  bool unified = true;   // the host reaches the memory of kernels
};

}  // namespace npu::gpu
