#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

#include "core/machine/thread_pool.h"

#if defined(__linux__)
#include <sched.h>
#endif

#include "npu/error.h"
#include "support/check.h"

namespace {

using npu::ThreadPool;

TEST(thread_pool, runs_every_piece_once) {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    for (const std::int64_t pieces : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> runs(static_cast<std::size_t>(pieces));
      pool.run(pieces, [&](std::int64_t piece, int thread) {
        CHECK(thread >= 0 && thread < threads);
        ++runs[static_cast<std::size_t>(piece)];
      });
      for (const auto& count : runs) CHECK(count == 1);
    }
  }
}

TEST(thread_pool, passes_an_exception_on_and_goes_on) {
  ThreadPool pool(3);
  auto broken = [](std::int64_t piece, int) {
    if (piece == 57) throw npu::Error(npu::ErrorKind::kInternal, {.area = "test", .what = "piece 57"});
  };
  CHECK_THROWS(pool.run(100, broken), "piece 57");
  std::atomic<int> count{0};
  pool.run(100, [&](std::int64_t, int) { ++count; });
  CHECK(count == 100);
}

TEST(thread_pool, serves_many_callers) {
  ThreadPool pool(2);
  std::atomic<std::int64_t> sum{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 8; ++c) {
    callers.emplace_back([&] {
      for (int i = 0; i < 200; ++i) pool.run(10, [&](std::int64_t piece, int) { sum += piece; });
    });
  }
  for (auto& caller : callers) caller.join();
  CHECK(sum == 8 * 200 * 45);
}

// Plain memory: what workers wrote is there when run returns, however soon the next job begins.
TEST(thread_pool, jobs_follow_each_other_at_once) {
  ThreadPool pool(3);
  std::vector<std::int64_t> written(7, -1);
  for (std::int64_t job = 0; job < 20'000; ++job) {
    pool.run(7, [&](std::int64_t piece, int) { written[static_cast<std::size_t>(piece)] = job + piece; });
    for (std::int64_t piece = 0; piece < 7; ++piece) {
      CHECK_EQ(written[static_cast<std::size_t>(piece)], job + piece);
    }
  }
}

TEST(thread_pool, a_thread_number_is_in_use_once) {
  ThreadPool pool(4);
  std::vector<std::atomic<int>> inside(4);
  for (int job = 0; job < 200; ++job) {
    pool.run(16, [&](std::int64_t, int thread) {
      CHECK(inside[static_cast<std::size_t>(thread)].fetch_add(1) == 0);
      std::this_thread::yield();
      inside[static_cast<std::size_t>(thread)].fetch_sub(1);
    });
  }
}

TEST(thread_pool, workers_wake_after_a_pause) {
  ThreadPool pool(2);
  for (int round = 0; round < 5; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    std::atomic<int> count{0};
    std::atomic<bool> helped{false};
    // The worker is needed: the caller stays in its piece until another thread has run one.
    pool.run(2, [&](std::int64_t, int thread) {
      ++count;
      if (thread != 0) helped = true;
      while (!helped) std::this_thread::yield();
    });
    CHECK(count == 2);
  }
}

TEST(thread_pool, comes_and_goes_at_any_time) {
  for (int i = 0; i < 300; ++i) {
    ThreadPool pool(1 + i % 5);
    std::atomic<int> count{0};
    for (int job = 0; job < i % 4; ++job) pool.run(5, [&](std::int64_t, int) { ++count; });
    CHECK_EQ(count.load(), 5 * (i % 4));
  }
}

#if defined(__linux__)
TEST(thread_pool, follows_a_caller_that_moves) {
  cpu_set_t all;
  CHECK_EQ(sched_getaffinity(0, sizeof all, &all), 0);
  ThreadPool pool(2);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &all)) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    CHECK_EQ(sched_setaffinity(0, sizeof one, &one), 0);
    std::atomic<int> count{0};
    for (int job = 0; job < 50; ++job) pool.run(4, [&](std::int64_t, int) { ++count; });
    CHECK_EQ(count.load(), 200);
  }
  sched_setaffinity(0, sizeof all, &all);
}
#endif

TEST(thread_pool, tapered_ranges_cover_all_and_shrink) {
  for (const int threads : {1, 2, 5}) {
    for (const std::int64_t total : {0, 1, 7, 100, 9496}) {
      for (const std::int64_t least : {0, 1, 3, 200}) {
        std::int64_t end = 0, before = total;
        for (const npu::Range& range : npu::tapered(total, least, threads)) {
          CHECK_EQ(range.begin, end);
          CHECK(range.end > range.begin);
          CHECK(range.end - range.begin <= before);
          before = range.end - range.begin;
          end = range.end;
        }
        CHECK_EQ(end, total);
      }
    }
  }
}

}  // namespace
