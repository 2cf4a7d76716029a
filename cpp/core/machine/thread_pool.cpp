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

#include "core/machine/separation.h"
#include "npu/threads.h"

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

namespace npu {

namespace {

// A worker looks for the next job for this long, enough to bridge the gap between two kernels of a run, short
// enough not to burn a core between runs. The caller waits longer for those at work: it will need its core
// again at once.
constexpr int kWorkerLooks = 4000, kCallerLooks = 64'000;
constexpr int kLooksBetweenYields = 8;

void relax() {
#if defined(__x86_64__) || defined(__i386__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Looks until `done()` or the looks are used up. Yields, so that where others need this core they take it
// now, and not in the middle of the next piece, which the others of this pool would then wait for.
template <class F>
bool look(int looks, F&& done) {
  for (int i = 1; i <= looks; ++i) {
    if (done()) return true;
    if (i % kLooksBetweenYields == 0) {
      std::this_thread::yield();
    } else {
      relax();
    }
  }
  return false;
}

// A forked child has none of its parent's threads: pools from before the fork must not wait for them.
std::atomic<int> g_forks{0};

int forks() {
  static const int registered = pthread_atfork(nullptr, nullptr, [] { g_forks.fetch_add(1); });
  (void)registered;
  return g_forks.load(std::memory_order_relaxed);
}

}  // namespace

// A job is a gate: workers enter while it is open, and the caller, once no piece is left, closes it and waits
// only for those inside. A worker that has lost its core to another process never enters, and delays nobody.
struct ThreadPool::Shared {
  const int born = forks();
  std::mutex caller;  // one job at a time; a second caller works alone instead of waiting
  std::vector<std::thread> workers;
  Separation separation;

  explicit Shared(int threads) : separation(threads) {}

  // Workers inside, whether it is open, and the number of the job above: the job changes with every opening.
  static constexpr std::uint32_t kInside = (1U << 12) - 1, kOpen = 1U << 12, kJob = 1U << 13;
  static_assert(kMaxThreads < static_cast<int>(kInside));
  alignas(64) std::atomic<std::uint32_t> gate{0};
  const TaskRef* task = nullptr;
  std::int64_t pieces = 0;
  std::atomic<bool> stop{false};
  std::atomic<bool> failed{false};
  alignas(64) std::atomic<std::int64_t> next{0};
  alignas(64) std::atomic<std::uint32_t> left{0};  // counts the times that a closed job became empty
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

  bool has_news(std::uint32_t seen) const {
    const std::uint32_t now = gate.load(std::memory_order_acquire);
    return stop.load(std::memory_order_relaxed) || ((now & kOpen) != 0 && now / kJob != seen);
  }

  // Waits for an open job other than `seen` and enters it; false at the end of the pool.
  bool enter(std::uint32_t& seen) {
    for (;;) {
      const bool news = look(kWorkerLooks, [&] { return has_news(seen); });
      std::uint32_t now = gate.load(std::memory_order_acquire);
      if (stop.load(std::memory_order_relaxed)) return false;
      if ((now & kOpen) != 0 && now / kJob != seen) {
        if (!gate.compare_exchange_strong(now, now + 1, std::memory_order_acq_rel)) continue;
        seen = now / kJob;
        return true;
      }
      if (!news) gate.wait(now, std::memory_order_acquire);
    }
  }

  void loop(int thread) {
    std::uint32_t seen = 0;
    while (enter(seen)) {
      work(thread);
      const std::uint32_t before = gate.fetch_sub(1, std::memory_order_acq_rel);
      if ((before & (kOpen | kInside)) == 1) {
        left.fetch_add(1, std::memory_order_release);
        left.notify_one();
      }
    }
  }

  void open() {
    const std::uint32_t job = (gate.load(std::memory_order_relaxed) & ~kOpen) + kJob;
    gate.store(job | kOpen, std::memory_order_release);
    gate.notify_all();
  }

  bool occupied() const { return (gate.load(std::memory_order_acquire) & kInside) != 0; }

  void close() {
    gate.fetch_and(~kOpen, std::memory_order_acq_rel);
    if (look(kCallerLooks, [&] { return !occupied(); })) return;
    separation.lend(workers);
    for (;;) {
      const std::uint32_t before = left.load(std::memory_order_acquire);
      if (!occupied()) return;
      left.wait(before, std::memory_order_acquire);
    }
  }
};

ThreadPool::ThreadPool(int threads) : threads_(threads < 1 ? 1 : threads) {
  if (threads_ == 1) return;
  shared_ = std::make_unique<Shared>(threads_);
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
  shared_->open();
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
  shared.separation.keep(shared.workers);
  shared.open();
  shared.work(0);
  shared.close();
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
