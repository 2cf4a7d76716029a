#include "gpu/ops/stream.h"

#include <algorithm>

#include "metal/constants.h"

namespace npu::gpu {

namespace {

constexpr std::int64_t kVector = 16, kLine = kVector * kSimd;  // bytes
constexpr std::int64_t kMostAhead = 4;  // an estimate: what memory brings while a core waits for a row
constexpr double kWorthSharing = 1.1;   // an estimate: simdgroups that share wait for each other

std::int64_t divided(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// The part of a threadgroup's rings that brings something until the last result: simdgroups may be left over,
// parts of the depth shorter than others, and sets may have a result less.
double use_of(int sharers, std::int64_t lines, std::int64_t results) {
  const std::int64_t sets = kStreamSimdgroups / sharers, each = divided(lines, sharers);
  const double simdgroups = static_cast<double>(sets * sharers) / kStreamSimdgroups;
  const double depth = static_cast<double>(lines) / static_cast<double>(each * sharers);
  const double columns = static_cast<double>(results) / static_cast<double>(sets * divided(results, sets));
  return simdgroups * depth * columns;
}

}  // namespace

bool has_aligned_rows(const TensorDesc& desc) {
  const auto size = static_cast<std::int64_t>(size_of(desc.dtype));
  for (std::size_t d = 0; d < desc.shape.size(); ++d) {
    if (desc.shape[d] > 1 && desc.strides[d] != 1 && desc.strides[d] * size % kVector != 0) return false;
  }
  return desc.alignment >= kVector;
}

std::optional<Stream> choose_stream(const StreamWork& work, const Caps& caps) {
  const auto size = static_cast<std::int64_t>(size_of(work.dtype));
  const std::int64_t bytes = work.depth * size, lines = divided(bytes, kLine);
  if (caps.stream_bytes < kStreamRingBytes || bytes % kVector != 0 || bytes < kLine ||
      work.results < caps.cores)
    return std::nullopt;
  const std::int64_t results = divided(work.results, caps.cores);  // of a threadgroup, at most
  Stream best;
  double most = 0;
  for (int sharers = 1; sharers <= kStreamSimdgroups; ++sharers) {
    const std::int64_t each = divided(lines, sharers);
    if (each > kMostStreamVectors || each * (sharers - 1) >= lines) continue;
    const double use = use_of(sharers, lines, results);
    if (use < most * kWorthSharing) continue;
    most = use;
    best.sharers = sharers;
    best.vectors = static_cast<int>(each);
  }
  if (most == 0) return std::nullopt;
  best.part = best.vectors * kLine / size;
  best.groups = static_cast<std::uint32_t>(caps.cores);
  const std::int64_t sets = kStreamSimdgroups / best.sharers, rings = sets * best.sharers;
  const std::int64_t stage = best.vectors * kLine, room = kStreamRingBytes / rings / stage;
  const std::int64_t wanted = divided(results, sets) * work.columns;
  best.stages = static_cast<int>(std::min({room, std::int64_t{kMostStreamStages}, wanted}));
  best.ahead = static_cast<int>(std::min(kMostAhead, wanted - best.stages));
  best.bytes = static_cast<int>(rings * best.stages * stage);
  return best;
}

}  // namespace npu::gpu
