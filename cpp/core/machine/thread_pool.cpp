#include "core/machine/thread_pool.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <map>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

namespace npu {

namespace {

// Long enough to bridge the gap between two kernels of a run, short enough not to burn a core in between
// runs.
constexpr int kSpins = 4000;

void relax() {
#if defined(__x86_64__) || defined(__i386__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// A forked child has none of its parent's threads: pools from before the fork must not wait for them.
std::atomic<int> g_forks{0};

int forks() {
  static const int registered = pthread_atfork(nullptr, nullptr, [] { g_forks.fetch_add(1); });
  (void)registered;
  return g_forks.load(std::memory_order_relaxed);
}

}  // namespace

struct ThreadPool::Shared {
  const int born = forks();
  std::mutex caller;  // one job at a time; a second caller works alone instead of waiting
  std::vector<std::thread> workers;

  alignas(64) std::atomic<std::uint32_t> epoch{0};  // a new value: there is a new job, or the end
  alignas(64) std::atomic<std::int64_t> next{0};
  alignas(64) std::atomic<int> busy{0};  // workers that have not finished the current job
  std::atomic<bool> stop{false};
  std::atomic<bool> failed{false};
  const TaskRef* task = nullptr;
  std::int64_t pieces = 0;
  std::exception_ptr error;

  void work(int thread) {
    try {
      for (;;) {
        const std::int64_t piece = next.fetch_add(1, std::memory_order_relaxed);
        if (piece >= pieces || failed.load(std::memory_order_relaxed)) return;
        (*task)(piece, thread);
      }
    } catch (...) {
      if (!failed.exchange(true)) error = std::current_exception();
    }
  }

  void loop(int thread) {
    std::uint32_t seen = 0;
    for (;;) {
      for (int i = 0; i < kSpins && epoch.load(std::memory_order_acquire) == seen; ++i) relax();
      epoch.wait(seen, std::memory_order_acquire);
      seen = epoch.load(std::memory_order_acquire);
      if (stop.load(std::memory_order_relaxed)) return;
      work(thread);
      if (busy.fetch_sub(1, std::memory_order_acq_rel) == 1) busy.notify_one();
    }
  }
};

ThreadPool::ThreadPool(int threads) : threads_(threads < 1 ? 1 : threads) {
  if (threads_ == 1) return;
  shared_ = std::make_unique<Shared>();
  for (int thread = 1; thread < threads_; ++thread) {
    shared_->workers.emplace_back([shared = shared_.get(), thread] { shared->loop(thread); });
  }
}

ThreadPool::~ThreadPool() {
  if (!shared_) return;
  if (shared_->born != forks()) {
    (void)shared_.release();  // its threads are not here to be joined
    return;
  }
  shared_->stop = true;
  shared_->epoch.fetch_add(1, std::memory_order_release);
  shared_->epoch.notify_all();
  for (auto& worker : shared_->workers) worker.join();
}

void ThreadPool::run_pieces(std::int64_t pieces, TaskRef task) {
  std::unique_lock<std::mutex> lock;
  if (shared_ && shared_->born == forks()) lock = std::unique_lock(shared_->caller, std::try_to_lock);
  if (!lock.owns_lock()) {
    for (std::int64_t piece = 0; piece < pieces; ++piece) task(piece, 0);
    return;
  }
  Shared& shared = *shared_;
  shared.task = &task;
  shared.pieces = pieces;
  shared.failed.store(false, std::memory_order_relaxed);
  shared.error = nullptr;
  shared.next.store(0, std::memory_order_relaxed);
  shared.busy.store(threads_ - 1, std::memory_order_relaxed);
  shared.epoch.fetch_add(1, std::memory_order_release);
  shared.epoch.notify_all();
  shared.work(0);
  for (int i = 0; i < kSpins && shared.busy.load(std::memory_order_acquire) != 0; ++i) relax();
  // On a crowded machine a worker may have lost its core: give it this one.
  for (int left = shared.busy.load(std::memory_order_acquire); left != 0;
       left = shared.busy.load(std::memory_order_acquire)) {
    shared.busy.wait(left, std::memory_order_acquire);
  }
  if (shared.error) std::rethrow_exception(std::exchange(shared.error, nullptr));
}

std::shared_ptr<ThreadPool> shared_pool(int threads) {
  static std::mutex mutex;
  static std::map<std::pair<int, int>, std::weak_ptr<ThreadPool>> pools;
  const std::lock_guard lock(mutex);
  auto& known = pools[{forks(), threads}];
  auto pool = known.lock();
  if (!pool) known = pool = std::make_shared<ThreadPool>(threads);
  return pool;
}

std::vector<Range> tapered(std::int64_t total, std::int64_t least, int threads) {
  std::vector<Range> ranges;
  for (std::int64_t begin = 0; begin < total;) {
    const std::int64_t each = std::max((total - begin) / (2 * threads), std::max<std::int64_t>(least, 1));
    for (int i = 0; i < threads && begin < total; ++i) {
      const std::int64_t end = std::min(begin + each, total);
      ranges.push_back({begin, end});
      begin = end;
    }
  }
  return ranges;
}

}  // namespace npu
