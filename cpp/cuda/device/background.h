// Work that nobody waits for, on threads of its own.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace npu::cuda {

class Background {
 public:
  explicit Background(std::size_t threads) : most_threads_(threads) {}
  ~Background() { stop(); }
  Background(const Background&) = delete;
  Background& operator=(const Background&) = delete;

  // `work` throws nothing. False where no thread can be had for it.
  bool add(std::function<void()> work);
  // What has begun is finished, the rest is dropped, and nothing more is taken. Also when the process ends,
  // before the libraries that work uses are torn down.
  void stop();

 private:
  void work();

  const std::size_t most_threads_;
  std::mutex mutex_;
  std::condition_variable more_;
  std::deque<std::function<void()>> open_;
  std::vector<std::thread> threads_;
  std::size_t idle_ = 0;
  bool stopped_ = false;
};

}  // namespace npu::cuda
