// Threads that run pieces of one kernel at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

namespace npu {

// A reference to a callable, without owning or allocating.
class TaskRef {
 public:
  template <class F>
  TaskRef(F& f)  // NOLINT: implicit on purpose
      : object_(&f),
        call_([](void* o, std::int64_t piece, int thread) { (*static_cast<F*>(o))(piece, thread); }) {}
  void operator()(std::int64_t piece, int thread) const { call_(object_, piece, thread); }

 private:
  void* object_;
  void (*call_)(void*, std::int64_t, int);
};

class ThreadPool {
 public:
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const noexcept { return threads_; }

  // Calls task(piece, thread) for every piece in [0, pieces); thread < threads() tells concurrent calls
  // apart. Returns when all are done. If a piece throws, the exception is rethrown here once the others have
  // stopped.
  void run_pieces(std::int64_t pieces, TaskRef task);

  template <class F>
  void run(std::int64_t pieces, F&& task) {
    if (pieces <= 0) return;
    if (pieces == 1 || threads_ == 1) {
      for (std::int64_t piece = 0; piece < pieces; ++piece) task(piece, 0);
      return;
    }
    run_pieces(pieces, TaskRef(task));
  }

 private:
  struct Shared;
  int threads_;
  std::unique_ptr<Shared> shared_;
};

// One pool for each number of threads, shared by all of the process.
std::shared_ptr<ThreadPool> shared_pool(int threads);

// [begin, end) of piece `index` when `total` is cut into `pieces` as evenly as possible.
struct Range {
  std::int64_t begin, end;
};
constexpr Range split(std::int64_t total, std::int64_t pieces, std::int64_t index) {
  const std::int64_t each = total / pieces, rest = total % pieces;
  const std::int64_t begin = index * each + (index < rest ? index : rest);
  return {begin, begin + each + (index < rest ? 1 : 0)};
}

// `total` in ranges that get smaller, down to `least`: long ones are read in one go, and short ones at the
// end let threads of different speeds finish together.
std::vector<Range> tapered(std::int64_t total, std::int64_t least, int threads);

}  // namespace npu
