// Keeps the workers of a pool off the CPU of the thread that gives them work.
#pragma once

#include <thread>
#include <vector>

namespace npu {

// Linux likes to wake a thread on the CPU of the one that wakes it, and may leave the two there, so that the
// worker begins when the caller has finished. macOS has no such choice: there this does nothing.
class Separation {
 public:
  explicit Separation(int threads);

  // Before each job, by its caller; takes nanoseconds unless the caller has moved.
  void keep(std::vector<std::thread>& workers);

  // By a caller that will sleep until the workers are done: its CPU is theirs too.
  void lend(std::vector<std::thread>& workers);

 private:
  static constexpr int kNone = -1;

  std::vector<int> cpus_;  // that the process may use; empty where workers cannot be told apart
  [[maybe_unused]] int avoided_ = kNone;
  [[maybe_unused]] int jobs_elsewhere_ = 0;
};

}  // namespace npu
