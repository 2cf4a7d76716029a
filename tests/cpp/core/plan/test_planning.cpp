#include <random>
#include <stdexcept>

#include "core/plan/arena.h"
#include "core/plan/layout.h"
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
