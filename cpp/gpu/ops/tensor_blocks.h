// Blocks of products on NVIDIA's tensor cores: which of the tiles of cpp/cuda/kernels, and in how many parts
// of the depth.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/plan/kernel.h"
#include "gpu/device/caps.h"
#include "gpu/plan/dispatch.h"

namespace npu::gpu {

// What is to be made: sums of `depth` products, counting gates as columns.
struct TensorWork {
  std::int64_t rows = 0, columns = 0, depth = 0;
  std::int64_t blocks = 1;  // products of that size
  DType dtype = DType::kFloat16;
  bool k_major = true;  // the right side's neighbours are of the depth
};

struct TensorBlocks {
  int rows = 0, columns = 0;  // of a tile
  std::uint32_t threads = 0;
  int threadgroup_bytes = 0;
  std::int64_t splits = 1, split_depth = 0;
  bool groups = false;

  std::string text() const {
    return (groups ? "groups_" : "tensor_") + std::to_string(rows) + "x" + std::to_string(columns);
  }
};

// The tile and the parts that are expected to take the least time.
TensorBlocks choose_tensor_blocks(const TensorWork& work, const Caps& caps);

// Whether chunks of 16 bytes can be copied at once along the one dimension whose elements are neighbours: all
// other steps are multiples of 16 bytes, and so is the address.
bool has_chunks(const TensorDesc& desc);

}  // namespace npu::gpu
