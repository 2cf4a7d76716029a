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

std::vector<int> Dependencies::next(const std::vector<Touched>& touched) {
  const int launch = static_cast<int>(before_.size());
  std::vector<int> before;
  for (const Touched& now : touched) {
    for (const Access& then : accesses_[now.space]) {
      if (conflict(now, then.touched)) before.push_back(then.launch);
    }
  }
  std::sort(before.begin(), before.end());
  before.erase(std::unique(before.begin(), before.end()), before.end());
  seen_for_.push_back(-1);
  reduce(before);
  for (const Touched& now : touched) remember(now, launch);
  before_.push_back(before);
  return before;
}

// Removes what is reached from another of them, going back no further than the first of them.
void Dependencies::reduce(std::vector<int>& before) {
  if (before.size() < 2) return;
  const int mark = static_cast<int>(before_.size()), first = before.front();
  std::vector<int> open;
  const auto go_back = [&](int launch) {
    for (const int earlier : before_[static_cast<std::size_t>(launch)]) {
      int& seen_for = seen_for_[static_cast<std::size_t>(earlier)];
      if (earlier < first || seen_for == mark) continue;
      seen_for = mark;
      open.push_back(earlier);
    }
  };
  for (const int launch : before) go_back(launch);
  while (!open.empty()) {
    const int launch = open.back();
    open.pop_back();
    go_back(launch);
  }
  std::erase_if(before, [&](int launch) { return seen_for_[static_cast<std::size_t>(launch)] == mark; });
}

// What a write covers need not be kept: who meets it meets the write, which waits for it.
void Dependencies::remember(const Touched& touched, int launch) {
  if (touched.low >= touched.high) return;
  auto& accesses = accesses_[touched.space];
  if (touched.writes) {
    std::erase_if(accesses, [&](const Access& then) {
      return then.launch != launch && touched.low <= then.touched.low && then.touched.high <= touched.high;
    });
  }
  accesses.push_back({touched, launch});
}

}  // namespace npu::gpu
