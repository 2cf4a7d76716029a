#include "gpu/ops/tensor_blocks.h"

#include <algorithm>
#include <array>
#include <limits>

#include "gpu/ops/launch.h"
#include "metal/constants.h"

namespace npu::gpu {

namespace {

// As cpp/cuda/kernels has them.
struct Tile {
  int rows, columns, simdgroups, stages;
  bool of_floats;       // there is one for float32
  bool groups = false;  // of simdgroups, which multiply together

  int threadgroup_bytes() const { return (rows + columns) * kTensorRowBytes * stages; }
};
constexpr std::array kTiles = {Tile{128, 128, 8, 3, false},        Tile{128, 64, 4, 3, false},
                               Tile{64, 64, 4, 4, true},           Tile{32, 64, 4, 5, true},
                               Tile{256, 128, 16, 4, false, true}, Tile{128, 256, 8, 4, false, true},
                               Tile{128, 128, 8, 6, false, true},  Tile{64, 128, 4, 8, false, true},
                               Tile{128, 64, 8, 8, false, true},   Tile{64, 64, 4, 12, false, true}};

// Estimates, in nanoseconds: what one core brings from the cache behind it, and all of them; what a core
// multiplies of 16-bit elements, in groups, and of floats; and what a launch, the first stages of a block,
// each one, and finishing 1000 results of a block cost at least.
constexpr double kBytesPerNs = 90, kAllBytesPerNs = 5300, kAllGroupBytesPerNs = 6200;
constexpr double kFlopsPerNs = 4500, kGroupFlopsPerNs = 6500, kFloatsPerNs = 450;
constexpr double kStartNs = 1500, kStageNs = 200, kGroupStageNs = 120, kLaunchNs = 2500, kFinishNs = 60;
constexpr std::int64_t kCoreBytes = 200 << 10;  // of threadgroup memory, for the blocks of a core at once
constexpr std::int64_t kMostSplits = 32, kLeastStages = 4;  // of the depth: parts, and stages of a part

double cost_of(const Tile& tile, const TensorWork& work, std::int64_t stages, std::int64_t splits,
               const Caps& caps) {
  const bool floats = work.dtype == DType::kFloat32;
  const std::int64_t blocks =
      work.blocks * ceil_div(work.rows, tile.rows) * ceil_div(work.columns, tile.columns) * splits;
  const std::int64_t of_core = (blocks + caps.cores - 1) / caps.cores;  // on the busiest core
  const std::int64_t at_once = std::max<std::int64_t>(1, kCoreBytes / tile.threadgroup_bytes());
  const double each = static_cast<double>((stages + splits - 1) / splits);  // stages of a block
  const double bytes = (tile.rows + tile.columns) * double{kTensorRowBytes};
  const double depth = floats ? kTensorRowBytes / 4.0 : kTensorRowBytes / 2.0;
  const double flops = 2.0 * tile.rows * tile.columns * depth;
  const double waves = static_cast<double>((of_core + at_once - 1) / at_once);
  const double busiest = static_cast<double>(of_core) * each;
  const double rate = floats ? kFloatsPerNs : tile.groups ? kGroupFlopsPerNs : kFlopsPerNs;
  // Blocks that share a core wait at once, and multiply in turn. Groups multiply one stage while others come.
  const double waiting = waves * each * (tile.groups ? kGroupStageNs : kStageNs);
  const double flowing = busiest * flops / rate;
  const double multiplying = tile.groups ? std::max(waiting, flowing) : waiting + flowing;
  const double bringing =
      std::max(busiest * bytes / kBytesPerNs, static_cast<double>(blocks) * each * bytes /
                                                  (tile.groups ? kAllGroupBytesPerNs : kAllBytesPerNs));
  // Where tiles are as large as groups have them.
  const double finishing =
      caps.tensor_groups && !floats ? waves * tile.rows * tile.columns / 1000.0 * kFinishNs : 0.0;
  double ns = kLaunchNs + waves * kStartNs + std::max(multiplying, bringing) + finishing;
  if (splits > 1) {
    const double sums = static_cast<double>(work.blocks * work.rows * work.columns) * 4.0;
    ns += kLaunchNs + kStartNs + sums * static_cast<double>(2 * splits) / kAllBytesPerNs;
  }
  return ns;
}

}  // namespace

TensorBlocks choose_tensor_blocks(const TensorWork& work, const Caps& caps) {
  const bool floats = work.dtype == DType::kFloat32;
  const std::int64_t of_stage = kTensorRowBytes / static_cast<std::int64_t>(size_of(work.dtype));
  const std::int64_t stages = std::max<std::int64_t>(1, (work.depth + of_stage - 1) / of_stage);
  TensorBlocks best;
  double least = std::numeric_limits<double>::infinity();
  for (const Tile& tile : kTiles) {
    if ((floats && !tile.of_floats) || tile.threadgroup_bytes() > caps.tensor_bytes) continue;
    if (tile.groups && !(caps.tensor_groups && work.k_major)) continue;
    for (std::int64_t splits = 1; splits <= std::min(kMostSplits, stages / kLeastStages + 1); ++splits) {
      if (splits > 1 && stages / splits < kLeastStages) break;
      const double cost = cost_of(tile, work, stages, splits, caps);
      if (cost >= least) continue;
      least = cost;
      best = {tile.rows,
              tile.columns,
              static_cast<std::uint32_t>(tile.simdgroups) * kSimd,
              tile.threadgroup_bytes(),
              splits,
              0,
              tile.groups};
    }
  }
  best.split_depth = (stages + best.splits - 1) / best.splits * of_stage;
  best.splits = std::max<std::int64_t>(1, (work.depth + best.split_depth - 1) / best.split_depth);
  return best;
}

bool has_chunks(const TensorDesc& desc) {
  const auto size = static_cast<std::int64_t>(size_of(desc.dtype));
  int neighbours = 0;
  for (std::size_t d = 0; d < desc.shape.size(); ++d) {
    if (desc.shape[d] <= 1) continue;
    if (desc.strides[d] == 1) ++neighbours;
    if (desc.strides[d] != 1 && desc.strides[d] * size % 16 != 0) return false;
  }
  return neighbours == 1 && desc.alignment >= 16;
}

}  // namespace npu::gpu
