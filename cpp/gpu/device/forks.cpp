#include "gpu/device/forks.h"

#include <pthread.h>

#include <atomic>

#include "npu/error.h"

namespace npu::gpu {

namespace {
std::atomic<bool> forked{false};
}

void watch_forks() {
  static const int registered = pthread_atfork(nullptr, nullptr, [] { forked = true; });
  (void)registered;
}

bool is_forked() { return forked; }

void refuse_forked(const std::string& area) {
  if (!forked) return;
  throw Error(ErrorKind::kUnavailable, {.area = area,
                                        .what = "a forked process cannot use the GPU of its parent",
                                        .action = "multiprocessing.set_start_method('spawn')"});
}

}  // namespace npu::gpu
