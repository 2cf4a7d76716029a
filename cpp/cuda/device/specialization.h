// A plan's kernels with the arguments of its launches as constants of their code.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "cuda/device/background.h"
#include "cuda/device/call.h"

namespace npu::cuda {

// Shared with the threads that compile them.
class Specialization {
 public:
  static std::shared_ptr<Specialization> begin(std::span<const Call> calls, Background& background);

  bool done() const { return open_.load(std::memory_order_acquire) == 0; }
  void wait();  // throws what went wrong
  // By launch; null where a kernel takes no arguments, or could not be compiled.
  const std::vector<std::shared_ptr<const LoadedKernel>>& kernels() const { return kernels_; }

 private:
  void compile(const CudaPipeline& pipeline, const gpu::Dispatch& dispatch,
               const std::vector<std::size_t>& launches);

  std::vector<std::shared_ptr<const LoadedKernel>> kernels_;
  std::atomic<std::size_t> open_{0};
  std::mutex mutex_;
  std::condition_variable finished_;
  std::exception_ptr failure_;
};

}  // namespace npu::cuda
