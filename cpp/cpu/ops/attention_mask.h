// Which scores of attention count.
#pragma once

#include <cstdint>

#include "core/geometry/attention.h"
#include "core/machine/thread_pool.h"
#include "core/plan/kernel.h"
#include "cpu/micro.h"

namespace npu::cpu {

// How the work is cut: rows of q, and columns of scores, one for each key.
struct AttentionShape : AttentionGeometry {
  std::int64_t row_blocks = 1;     // into which the rows of a group are cut
  std::int64_t block_columns = 1;  // columns taken at a time

  std::int64_t column_blocks() const { return (keys + block_columns - 1) / block_columns; }
  std::int64_t units() const { return batch * groups * row_blocks; }
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
