#include <atomic>
#include <random>
#include <stdexcept>
#include <thread>

#include "core/machine/thread_pool.h"
#include "core/plan/arena.h"
#include "core/plan/layout.h"
#include "npu/error.h"
#include "support/check.h"

using namespace npu;

TEST(planning, arena_keeps_the_living_apart) {
  std::mt19937 random(3);
  for (int round = 0; round < 50; ++round) {
    std::vector<Lifetime> lives(1 + random() % 40);
    for (auto& life : lives) {
      life.bytes = static_cast<std::int64_t>(random() % 5000);
      life.first = static_cast<int>(random() % 30);
      life.last = life.first + static_cast<int>(random() % 6);
    }
    const ArenaSizes sizes = arrange(lives);
    CHECK(sizes.total >= sizes.largest_live);
    for (std::size_t i = 0; i < lives.size(); ++i) {
      CHECK(lives[i].offset % 64 == 0);
      CHECK(lives[i].offset >= 0);
      CHECK(lives[i].offset + lives[i].bytes <= sizes.total);
      for (std::size_t j = 0; j < i; ++j) {
        const bool together = lives[i].first <= lives[j].last && lives[j].first <= lives[i].last;
        const bool apart = lives[i].offset + lives[i].bytes <= lives[j].offset ||
                           lives[j].offset + lives[j].bytes <= lives[i].offset;
        CHECK(!together || apart);
      }
    }
  }
}

namespace {

Operand view(Shape shape, Shape strides, std::int64_t offset) {
  Operand operand;
  operand.value = 0;
  operand.shape = std::move(shape);
  operand.strides = std::move(strides);
  operand.offset = offset;
  operand.whole = false;
  return operand;
}

Value image() {
  Value value;
  value.shape = {2, 3, 4, 5};
  return value;
}

}  // namespace

TEST(planning, views_move_to_channels_last) {
  // x[:, 1:, ::2, 1:4] of [2, 3, 4, 5].
  const auto slice =
      physical_operand(view({2, 2, 2, 3}, {60, 20, 10, 1}, 21), image(), Layout::kChannelsLast);
  CHECK(slice.has_value());
  CHECK(slice->offset == 1 + 3);
  CHECK((slice->desc.strides == Shape{60, 1, 30, 3}));
  // x.permute(0, 2, 3, 1)
  const auto permuted =
      physical_operand(view({2, 4, 5, 3}, {60, 5, 1, 20}, 0), image(), Layout::kChannelsLast);
  CHECK(permuted.has_value());
  CHECK((permuted->desc.strides == Shape{60, 15, 3, 1}));
  // x.flip(1): a negative stride.
  const auto flipped =
      physical_operand(view({2, 3, 4, 5}, {60, -20, 5, 1}, 40), image(), Layout::kChannelsLast);
  CHECK(flipped.has_value());
  CHECK(flipped->offset == 2);
  CHECK((flipped->desc.strides == Shape{60, -1, 15, 3}));
  // x.flatten(1) runs through channels and pixels: not expressible.
  CHECK(!physical_operand(view({2, 60}, {60, 1}, 0), image(), Layout::kChannelsLast).has_value());
  CHECK(physical_operand(view({2, 60}, {60, 1}, 0), image(), Layout::kRowMajor).has_value());
}

TEST(planning, tapered_ranges_cover_all_and_shrink) {
  for (const int threads : {1, 2, 5}) {
    for (const std::int64_t total : {0, 1, 7, 100, 9496}) {
      for (const std::int64_t least : {0, 1, 3, 200}) {
        std::int64_t end = 0, before = total;
        for (const Range& range : tapered(total, least, threads)) {
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

TEST(planning, pool_runs_every_piece_once) {
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

TEST(planning, pool_passes_an_exception_on_and_goes_on) {
  ThreadPool pool(3);
  auto broken = [](std::int64_t piece, int) {
    if (piece == 57) throw npu::Error(npu::ErrorKind::kInternal, {.area = "test", .what = "piece 57"});
  };
  CHECK_THROWS(pool.run(100, broken), "piece 57");
  std::atomic<int> count{0};
  pool.run(100, [&](std::int64_t, int) { ++count; });
  CHECK(count == 100);
}

TEST(planning, pool_serves_many_callers) {
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
