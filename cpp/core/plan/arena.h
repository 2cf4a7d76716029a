// Offsets of intermediates in one block of memory.
#pragma once

#include <cstdint>
#include <vector>

namespace npu {

struct Lifetime {
  std::int64_t bytes = 0;
  int first = 0, last = 0;  // the steps between which it is needed, both included
  std::int64_t offset = 0;  // the result
};

struct ArenaSizes {
  std::int64_t total = 0;
  std::int64_t largest_live = 0;  // the least that any arrangement needs
};

// Assigns offsets so that values that live at the same time do not overlap.
ArenaSizes arrange(std::vector<Lifetime>& lifetimes);

}  // namespace npu
