// Which launches must wait for earlier ones.
#pragma once

#include <cstdint>
#include <vector>

namespace npu::gpu {

// Bytes that a launch touches, in a space of addresses of their own: spaces never overlap.
struct Touched {
  int space = 0;
  std::int64_t low = 0, high = 0;
  bool reads = false, writes = false;
};

// Follows launches in their order; between two barriers nothing may touch what another one writes.
class Hazards {
 public:
  // Whether a barrier is needed before a launch that touches these; counts it as set if so.
  bool next(const std::vector<Touched>& touched);

 private:
  std::vector<Touched> since_;  // the last barrier
};

}  // namespace npu::gpu
