// What kernels may count on. Kernel selection depends on nothing else, so it is the same for a chip that is
// here and for one that is only described.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <string>

#include "gpu/device/chip.h"

namespace npu::gpu {

struct Caps {
  Caps() {}  // not `= default`: GCC 12 then warns that `name` of a temporary may be uninitialized

  static constexpr std::uint32_t kAny = std::numeric_limits<std::uint32_t>::max();

  std::string name;                                        // as people read it
  const Chip* chip = nullptr;                              // where it is one that we know
  int cores = 8;                                           // that run threadgroups
  int threads_per_group = 1024;                            // at most
  std::array<std::uint32_t, 3> threads{1024, 1024, 1024};  // of a threadgroup along x, y and z, at most
  std::array<std::uint32_t, 3> groups{kAny, kAny, kAny};   // of a grid; a longer one is launched as a line
  int threadgroup_bytes = 32 << 10;                        // of threadgroup memory, at most
  int simd_width = 32;
  bool matrices = true;        // simdgroup_matrix
  int tensor_bytes = 0;        // of threadgroup memory for blocks on NVIDIA's tensor cores; 0: there are none
  bool tensor_groups = false;  // four simdgroups multiply what is in threadgroup memory: Hopper's
  int stream_bytes = 0;        // the same for rings that bulk copies fill, of NVIDIA's since Hopper
  bool bfloat = true;          // as a type of kernels
  bool unified = true;         // the host reaches the memory of kernels
  bool rereads = false;        // reading again what another core has read is cheap
};

}  // namespace npu::gpu
