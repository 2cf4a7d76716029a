#include "core/plan/arena.h"

#include <algorithm>
#include <map>
#include <numeric>

namespace npu {

namespace {

constexpr std::int64_t kAlignment = 64;

std::int64_t largest_live(const std::vector<Lifetime>& lifetimes) {
  std::map<int, std::int64_t> change;
  for (const auto& life : lifetimes) {
    change[life.first] += life.bytes;
    change[life.last + 1] -= life.bytes;
  }
  std::int64_t live = 0, most = 0;
  for (const auto& [step, bytes] : change) most = std::max(most, live += bytes);
  return most;
}

}  // namespace

ArenaSizes arrange(std::vector<Lifetime>& lifetimes) {
  std::vector<std::size_t> order(lifetimes.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  // Large ones first leave gaps that small ones fill.
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return lifetimes[a].bytes > lifetimes[b].bytes; });
  ArenaSizes sizes{0, largest_live(lifetimes)};
  std::vector<const Lifetime*> arranged, near;
  for (const std::size_t index : order) {
    Lifetime& life = lifetimes[index];
    near.clear();
    for (const Lifetime* other : arranged) {
      if (other->first <= life.last && life.first <= other->last) near.push_back(other);
    }
    std::sort(near.begin(), near.end(), [](auto* a, auto* b) { return a->offset < b->offset; });
    const std::int64_t bytes = (life.bytes + kAlignment - 1) / kAlignment * kAlignment;
    std::int64_t at = 0, best = -1, best_gap = 0;
    for (const Lifetime* other : near) {
      const std::int64_t gap = other->offset - at;
      if (gap >= bytes && (best < 0 || gap < best_gap)) {
        best = at;
        best_gap = gap;
      }
      at = std::max(at, other->offset + (other->bytes + kAlignment - 1) / kAlignment * kAlignment);
    }
    life.offset = best >= 0 ? best : at;
    sizes.total = std::max(sizes.total, life.offset + bytes);
    arranged.push_back(&life);
  }
  return sizes;
}

}  // namespace npu
