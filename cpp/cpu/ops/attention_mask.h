// Which scores of attention count.
#pragma once

#include <cstdint>

#include "core/machine/thread_pool.h"
#include "core/plan/kernel.h"
#include "cpu/micro.h"

namespace npu::cpu {

// Rows are numbered within a group of heads that share keys: position-major, so that a range of them is a
// narrow range of positions whose heads all read the same keys.
struct AttentionShape {
  std::int64_t batch = 0, heads = 0, groups = 1, length = 0, columns = 0, width = 0, out_width = 0;
  std::int64_t row_blocks = 1;     // into which the rows of a group are cut
  std::int64_t block_columns = 1;  // columns taken at a time

  std::int64_t heads_per_group() const { return heads / groups; }
  std::int64_t rows() const { return heads_per_group() * length; }
  std::int64_t column_blocks() const { return (columns + block_columns - 1) / block_columns; }
  std::int64_t units() const { return batch * groups * row_blocks; }
  std::int64_t head(std::int64_t group, std::int64_t row) const {
    return group * heads_per_group() + row % heads_per_group();
  }
  std::int64_t position(std::int64_t row) const { return row / heads_per_group(); }
};

// A row block of one group.
struct AttentionUnit {
  std::int64_t n, g, block;
  Range rows;
};

// Finds the blocks of columns that no row of a unit sees, so that their keys and values are not read.
class AttentionMask {
 public:
  AttentionMask(const TensorDesc& mask, bool causal, const AttentionShape& shape, int threads);

  std::size_t table_bytes() const;  // what find() writes
  // Floats for the addends of a row, per thread.
  std::int64_t buffer_floats() const { return mask_.present() ? shape_.block_columns : 0; }

  void find(const void* mask, std::uint8_t* table, float* buffers, ThreadPool& pool) const;

  // Blocks of columns from `begin` on that the unit sees: the first of them, or column_blocks().
  std::int64_t next_seen(const std::uint8_t* table, const AttentionUnit& unit, std::int64_t begin) const;

  // Where the columns end that any row of the unit can see: earlier than all only for causal masks.
  std::int64_t columns_end(const AttentionUnit& unit) const;

  // Columns of a block that a row can see at all, from its first on: all, but for causal masks.
  std::int64_t reach(std::int64_t row, std::int64_t column, std::int64_t count) const;

  // Scales and masks `count` scores of a row from column `column` on; returns the maximum.
  float apply(const void* mask, const AttentionUnit& unit, std::int64_t row, std::int64_t column,
              std::int64_t count, float scale, float* scores, float* buffer) const;

 private:
  std::int64_t tables() const { return batches_ * groups_ * row_blocks_; }
  void find_unit(const void* mask, std::int64_t unit, std::uint8_t* table, float* buffer) const;
  bool find_row(const std::byte* row, std::uint8_t* table, float* buffer) const;
  std::uint8_t look(const std::byte* from, std::int64_t count, float* buffer) const;

  TensorDesc mask_;
  bool causal_;
  AttentionShape shape_;
  int threads_;
  const Micro* micro_;
  // Units that differ in what they see; 1 where the mask is broadcast.
  std::int64_t batches_ = 1, groups_ = 1, row_blocks_ = 1;
};

}  // namespace npu::cpu
