// A line on the terminal while kernels are compiled, when that takes longer than a second.
#pragma once

#include <chrono>
#include <cstddef>
#include <mutex>

namespace npu::gpu {

class CompileProgress {
 public:
  explicit CompileProgress(std::size_t kernels) : kernels_(kernels) {}
  ~CompileProgress();
  CompileProgress(const CompileProgress&) = delete;
  CompileProgress& operator=(const CompileProgress&) = delete;

  void compiled_one();  // from any thread

 private:
  using Clock = std::chrono::steady_clock;

  const std::size_t kernels_;
  const Clock::time_point began_ = Clock::now();
  std::mutex mutex_;
  std::size_t compiled_ = 0;
  bool shown_ = false;
};

}  // namespace npu::gpu
