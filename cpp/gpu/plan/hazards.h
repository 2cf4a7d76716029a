// Which launches must wait for earlier ones.
#pragma once

#include <cstdint>
#include <map>
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

// Which earlier launches each must wait for, where launches may run side by side.
class Dependencies {
 public:
  // By number, in rising order; without those that another of them waits for.
  std::vector<int> next(const std::vector<Touched>& touched);

 private:
  struct Access {
    Touched touched;
    int launch;
  };
  void reduce(std::vector<int>& before);
  void remember(const Touched& touched, int launch);

  std::map<int, std::vector<Access>> accesses_;  // by space; not those that a later write covers
  std::vector<std::vector<int>> before_;         // by launch: what next() said
  std::vector<int> seen_for_;                    // by launch: the last one for which reduce() came by
};

}  // namespace npu::gpu
