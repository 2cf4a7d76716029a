#include "gpu/plan/hazards.h"

#include <algorithm>

namespace npu::gpu {

namespace {

bool conflict(const Touched& a, const Touched& b) {
  return a.space == b.space && (a.writes || b.writes) && std::max(a.low, b.low) < std::min(a.high, b.high);
}

}  // namespace

bool Hazards::next(const std::vector<Touched>& touched) {
  const bool barrier = std::any_of(touched.begin(), touched.end(), [&](const Touched& now) {
    return std::any_of(since_.begin(), since_.end(),
                       [&](const Touched& then) { return conflict(now, then); });
  });
  if (barrier) since_.clear();
  for (const Touched& now : touched) {
    if (now.low < now.high) since_.push_back(now);
  }
  return barrier;
}

}  // namespace npu::gpu
