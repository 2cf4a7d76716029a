// Calls f(0) to f(count - 1) from several threads, or as many as there can be; throws what the first of them
// threw, after which nothing is begun. The host program may interrupt it between two calls.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "core/base/interrupt.h"

namespace npu::gpu {

template <class F>
void in_parallel(std::size_t count, std::size_t most_threads, F f) {
  std::atomic<std::size_t> next{0};
  std::exception_ptr failure;
  std::mutex mutex;
  const auto work = [&](bool is_caller) {
    for (std::size_t i = next++; i < count; i = next++) {
      try {
        if (is_caller) check_interrupt();
        f(i);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!failure) failure = std::current_exception();
        next = count;
      }
    }
  };
  const std::size_t wanted =
      std::min<std::size_t>({count, most_threads, std::thread::hardware_concurrency()});
  std::vector<std::thread> helpers;
  try {
    while (helpers.size() + 1 < wanted) helpers.emplace_back(work, false);
  } catch (const std::system_error&) {  // there are no more threads
  }
  work(true);
  for (std::thread& helper : helpers) helper.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace npu::gpu
