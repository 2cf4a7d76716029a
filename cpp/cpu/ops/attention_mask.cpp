#include "cpu/ops/attention_mask.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu/element.h"
#include "cpu/strided.h"

namespace npu::cpu {

namespace {

// Addends up to this one leave nothing of a column in a row that sees a column with a greater one: no score
// makes up for the distance between two floats of that size.
constexpr float kNothing = -1e30f;
constexpr std::uint8_t kSeen = 1, kFinite = 2;  // what look() finds: above kNothing, above -inf

}  // namespace

AttentionMask::AttentionMask(const TensorDesc& mask, bool causal, const AttentionShape& shape, int threads)
    : mask_(mask), causal_(causal), shape_(shape), threads_(threads), micro_(&micro()) {
  if (!mask_.present()) return;
  if (mask_.strides[0] != 0) batches_ = shape.batch;
  if (mask_.strides[1] != 0) groups_ = shape.groups;
  if (mask_.strides[2] != 0) row_blocks_ = shape.row_blocks;
}

std::size_t AttentionMask::table_bytes() const {
  return mask_.present() ? round_up(static_cast<std::size_t>(tables() * shape_.column_blocks())) : 0;
}

void AttentionMask::find(const void* mask, std::uint8_t* table, float* buffers, ThreadPool& pool) const {
  if (!mask_.present()) return;
  const std::int64_t units = tables();
  const double rows = static_cast<double>(shape_.rows_of_group()) / static_cast<double>(row_blocks_);
  const std::int64_t pieces = piece_count(units, 0.5 * rows * static_cast<double>(shape_.keys), threads_);
  pool.run(pieces, [&](std::int64_t piece, int thread) {
    const Range range = split(units, pieces, piece);
    for (std::int64_t unit = range.begin; unit < range.end; ++unit) {
      find_unit(mask, unit, table + unit * shape_.column_blocks(), buffers + thread * buffer_floats());
    }
  });
}

void AttentionMask::find_unit(const void* mask, std::int64_t unit, std::uint8_t* table, float* buffer) const {
  const std::int64_t n = unit / (groups_ * row_blocks_), g = unit / row_blocks_ % groups_;
  const Range rows = split(shape_.rows_of_group(), row_blocks_, unit % row_blocks_);
  const std::int64_t blocks = shape_.column_blocks();
  std::fill_n(table, blocks, std::uint8_t{0});
  const bool heads = mask_.strides[1] != 0, positions = mask_.strides[2] != 0;
  const std::int64_t s0 = positions ? shape_.position(rows.begin) : 0;
  const std::int64_t s1 = positions ? shape_.position(rows.end - 1) + 1 : 1;
  const std::int64_t h1 = heads ? shape_.heads_of_group() : 1;
  bool long_way = false;
  for (std::int64_t s = s0; s < s1; ++s) {
    for (std::int64_t h = 0; h < h1; ++h) {
      const std::int64_t head = g * shape_.heads_of_group() + h;
      const std::int64_t offset = n * mask_.strides[0] + head * mask_.strides[1] + s * mask_.strides[2];
      if (!find_row(at(mask, offset, size_of(mask_.dtype)), table, buffer)) long_way = true;
    }
  }
  const std::uint8_t wanted = long_way ? kFinite : kSeen;
  for (std::int64_t b = 0; b < blocks; ++b) table[b] = (table[b] & wanted) != 0;
}

// False when the row sees nothing but addends that are very small and yet finite.
bool AttentionMask::find_row(const std::byte* row, std::uint8_t* table, float* buffer) const {
  std::uint8_t all = 0;
  for (std::int64_t b = 0; b < shape_.column_blocks(); ++b) {
    const std::int64_t column = b * shape_.block_columns;
    const std::int64_t count = std::min(shape_.block_columns, shape_.keys - column);
    const std::uint8_t seen = look(at(row, column * mask_.strides[3], size_of(mask_.dtype)), count, buffer);
    table[b] |= seen;
    all |= seen;
  }
  return all != kFinite;
}

std::uint8_t AttentionMask::look(const std::byte* from, std::int64_t count, float* buffer) const {
  const std::int64_t step = mask_.strides[3];
  if (mask_.dtype == DType::kBool) {
    const auto* seen = reinterpret_cast<const std::uint8_t*>(from);
    bool any = false;
    if (step == 1) {
      any = micro_->any_set(seen, count);
    } else {
      for (std::int64_t i = 0; i < count; ++i) any = any || seen[i * step] != 0;
    }
    return any ? kSeen | kFinite : 0;
  }
  const float* const addends = float_row(*micro_, mask_.dtype, from, step, count, buffer);
  constexpr std::uint8_t kByAddends[] = {0, kFinite, kSeen | kFinite};
  return kByAddends[micro_->addends_above(addends, kNothing, count)];
}

std::int64_t AttentionMask::columns_end(const AttentionUnit& unit) const {
  if (!causal_) return shape_.keys;
  return std::min(shape_.keys, shape_.position(unit.rows.end - 1) + 1);
}

std::int64_t AttentionMask::next_seen(const std::uint8_t* table, const AttentionUnit& unit,
                                      std::int64_t begin) const {
  const std::int64_t blocks = shape_.column_blocks();
  if (causal_ && begin * shape_.block_columns >= columns_end(unit)) return blocks;
  if (!mask_.present()) return begin;
  const std::int64_t n = batches_ > 1 ? unit.n : 0, g = groups_ > 1 ? unit.g : 0;
  const std::int64_t block = row_blocks_ > 1 ? unit.block : 0;
  const std::uint8_t* const mine = table + ((n * groups_ + g) * row_blocks_ + block) * blocks;
  if (begin >= blocks) return blocks;
  const void* const next = std::memchr(mine + begin, 1, static_cast<std::size_t>(blocks - begin));
  return next == nullptr ? blocks : static_cast<const std::uint8_t*>(next) - mine;
}

std::int64_t AttentionMask::reach(std::int64_t row, std::int64_t column, std::int64_t count) const {
  if (!causal_) return count;
  return std::clamp<std::int64_t>(shape_.position(row) + 1 - column, 0, count);
}

float AttentionMask::apply(const void* mask, const AttentionUnit& unit, std::int64_t row, std::int64_t column,
                           std::int64_t count, float scale, float* scores, float* buffer) const {
  if (!mask_.present()) return micro_->scaled_peak(scores, scale, nullptr, nullptr, count);
  const std::int64_t offset = unit.n * mask_.strides[0] + shape_.head(unit.g, row) * mask_.strides[1] +
                              shape_.position(row) * mask_.strides[2] + column * mask_.strides[3];
  const std::byte* const from = at(mask, offset, size_of(mask_.dtype));
  if (mask_.dtype != DType::kBool) {
    const float* addend = float_row(*micro_, mask_.dtype, from, mask_.strides[3], count, buffer);
    return micro_->scaled_peak(scores, scale, addend, nullptr, count);
  }
  const auto* seen = reinterpret_cast<const std::uint8_t*>(from);
  if (mask_.strides[3] != 1 && count > 1) {
    load_bools(from, mask_.strides[3], count, reinterpret_cast<std::uint8_t*>(buffer));
    seen = reinterpret_cast<const std::uint8_t*>(buffer);
  }
  return micro_->scaled_peak(scores, scale, nullptr, seen, count);
}

}  // namespace npu::cpu
