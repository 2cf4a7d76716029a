// Products of one row at the speed of memory, on NVIDIA's GPUs since Hopper: how cpp/cuda/kernels/stream.h
// shares their work.
#pragma once

#include <cstdint>
#include <optional>

#include "core/plan/kernel.h"
#include "gpu/device/caps.h"
#include "gpu/plan/dispatch.h"

namespace npu::gpu {

// Whether all that lies along the dimension whose elements are neighbours starts at multiples of 16 bytes.
bool has_aligned_rows(const TensorDesc& desc);

struct Stream {
  int sharers = 1;           // simdgroups that share the depth of a column
  int vectors = 1;           // of 16 bytes, that a lane has of the row
  std::int64_t part = 0;     // of the depth, of a sharer
  std::uint32_t groups = 0;  // one for each core
  int stages = 0;            // of a ring: no more than are filled, so that other threadgroups fit beside
  int ahead = 0;             // parts after those that are prefetched to the cache of all cores
  int bytes = 0;             // of all rings of a threadgroup
};

struct StreamWork {
  std::int64_t results = 0, depth = 0;
  int columns = 1;  // of a result
  DType dtype = DType::kFloat16;
};

// Nothing where such rings are not there, or no good: columns that are no vectors or not even a line of them,
// rows that the lanes of a threadgroup cannot hold, and fewer results than cores.
std::optional<Stream> choose_stream(const StreamWork& work, const Caps& caps);

}  // namespace npu::gpu
