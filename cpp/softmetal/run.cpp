// A dispatch: its threadgroups, over the host's threads in fast mode, one by one in an order of its own in
// checked mode.
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <numeric>
#include <random>
#include <thread>

#include "check/checker.h"
#include "worker.h"

namespace softmetal {

namespace {

// Host threads that sleep between dispatches. One dispatch at a time uses them; another one meanwhile runs on
// the thread that asked for it.
class Helpers {
 public:
  static Helpers& shared() {
    static Helpers* helpers = new Helpers;  // outlives whatever still runs at exit
    return *helpers;
  }

  // Calls `work` on this thread and on the helpers, and returns when all are through.
  void run(const std::function<void()>& work) {
    std::unique_lock busy(busy_, std::try_to_lock);
    if (!busy || count_ == 0) return work();
    {
      std::lock_guard lock(mutex_);
      work_ = &work;
      remaining_ = count_;
      ++round_;
    }
    wake_.notify_all();
    work();
    std::unique_lock lock(mutex_);
    done_.wait(lock, [&] { return remaining_ == 0; });
  }

 private:
  Helpers() {
    const char* asked = std::getenv("SOFTMETAL_THREADS");
    int threads = asked ? std::atoi(asked) : static_cast<int>(std::thread::hardware_concurrency());
    count_ = std::clamp(threads, 1, 64) - 1;
    for (int i = 0; i < count_; ++i) std::thread([this] { serve(); }).detach();
  }

  void serve() {
    unsigned seen = 0;
    for (;;) {
      const std::function<void()>* work;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return round_ != seen; });
        seen = round_;
        work = work_;
      }
      (*work)();
      std::lock_guard lock(mutex_);
      if (--remaining_ == 0) done_.notify_one();
    }
  }

  std::mutex busy_, mutex_;
  std::condition_variable wake_, done_;
  const std::function<void()>* work_ = nullptr;
  unsigned round_ = 0;
  int count_ = 0, remaining_ = 0;
};

Extent groups_of(const Launch& launch) {
  Extent t = launch.threads, g = launch.grid;
  return {(g.x + t.x - 1) / t.x, (g.y + t.y - 1) / t.y, (g.z + t.z - 1) / t.z};
}

Extent position_of(std::size_t index, Extent groups) {
  return {static_cast<unsigned>(index % groups.x), static_cast<unsigned>(index / groups.x % groups.y),
          static_cast<unsigned>(index / groups.x / groups.y)};
}

std::optional<Fault> run_fast(const Launch& launch) {
  Extent groups = groups_of(launch);
  const std::size_t count = std::size_t{groups.x} * groups.y * groups.z;
  const std::size_t part = std::max<std::size_t>(1, count / 256);
  std::atomic<std::size_t> next{0};
  std::mutex mutex;
  std::optional<Fault> first;
  auto work = [&] {
    Worker* worker = nullptr;
    for (;;) {
      std::size_t begin = next.fetch_add(part);
      if (begin >= count) return;
      if (!worker) (worker = &Worker::of_this_thread())->begin(launch, nullptr);
      for (std::size_t i = begin; i < std::min(begin + part, count); ++i)
        if (auto fault = worker->run_threadgroup(position_of(i, groups))) {
          std::lock_guard lock(mutex);
          if (!first) first = std::move(fault);
          next = count;
          return;
        }
    }
  };
  Extent t = launch.threads;
  bool small = count == 1 || count * t.x * t.y * t.z < 4096;
  if (small)
    work();
  else
    Helpers::shared().run(work);
  return first;
}

// Any order of threadgroups is right, so a kernel that counts on one shall fail.
std::optional<Fault> run_checked(const Launch& launch, Hazards* hazards) {
  Extent groups = groups_of(launch);
  std::vector<std::size_t> order(std::size_t{groups.x} * groups.y * groups.z);
  std::iota(order.begin(), order.end(), std::size_t{0});
  const char* seed = std::getenv("SOFTMETAL_SEED");
  std::shuffle(order.begin(), order.end(), std::mt19937(seed ? std::atoi(seed) : 1));
  Checker checker(launch, hazards);
  Worker& worker = Worker::of_this_thread();
  worker.begin(launch, &checker);
  std::optional<Fault> fault;
  for (std::size_t i = 0; i < order.size() && !fault; ++i)
    fault = worker.run_threadgroup(position_of(order[i], groups));
  worker.end();
  return fault;
}

Fault refusal(const Launch& launch, const std::string& text) {
  Fault fault;
  fault.kernel = launch.function->name();
  fault.text = "kernel " + fault.kernel + ": " + text;
  return fault;
}

std::optional<Fault> check_argument(const Launch& launch, const Argument& argument) {
  std::string what = std::string(argument.name) + " at index " + std::to_string(argument.index);
  if (argument.source == Source::threadgroup_memory) {
    if (launch.threadgroup_bytes[argument.index]) return std::nullopt;
    return refusal(launch, "no length was set for threadgroup argument " + what);
  }
  const Binding& binding = launch.buffers[argument.index];
  Fault fault = refusal(launch, "");
  fault.buffer = static_cast<int>(argument.index);
  if (!binding.data) {
    fault.text += "no buffer is bound for argument " + what;
    return fault;
  }
  if (binding.bytes >= argument.bytes) return std::nullopt;
  fault.text += "the buffer bound for argument " + what + " has " + std::to_string(binding.bytes) +
                " bytes, its type has " + std::to_string(argument.bytes);
  return fault;
}

}  // namespace

bool has_tensor_cores() {
  static const bool asked = [] {
    const char* value = std::getenv("SOFTMETAL_TENSOR_CORES");
    return value != nullptr && (std::string(value) == "1" || std::string(value) == "2");
  }();
  return asked;
}

std::optional<Fault> check_launch(const Launch& launch) {
  Extent t = launch.threads, g = launch.grid;
  std::size_t threads = std::size_t{t.x} * t.y * t.z;
  if (threads == 0 || g.x == 0 || g.y == 0 || g.z == 0)
    return refusal(launch, "an empty grid or threadgroup");
  if (threads > launch.function->max_threads())
    return refusal(launch, std::to_string(threads) + " threads per threadgroup; the kernel allows " +
                               std::to_string(launch.function->max_threads()));
  std::size_t memory = launch.function->layout().bytes;
  for (std::size_t bytes : launch.threadgroup_bytes) memory += (bytes + 15) / 16 * 16;
  if (memory > threadgroup_memory())
    return refusal(launch, std::to_string(memory) + " bytes of threadgroup memory; there are " +
                               std::to_string(threadgroup_memory()));
  for (const Argument& argument : launch.function->arguments())
    if (auto fault = check_argument(launch, argument)) return fault;
  return std::nullopt;
}

std::optional<Fault> run(const Launch& launch, Hazards* hazards) {
  if (auto fault = check_launch(launch)) return fault;
  return launch.function->mode() == Mode::fast ? run_fast(launch) : run_checked(launch, hazards);
}

}  // namespace softmetal
