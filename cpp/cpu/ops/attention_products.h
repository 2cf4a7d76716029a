// The two products of attention, over one block of columns at a time: queries with keys, weights with values.
#pragma once

#include "cpu/ops/attention_mask.h"

namespace npu::cpu {

class AttentionProducts {
 public:
  // For at most `block_rows` rows of a unit at a time.
  AttentionProducts(const KernelRequest& r, const AttentionShape& shape, std::int64_t block_rows);

  const char* form() const;

  // Of a thread.
  struct Room {
    float *panel, *scales;
  };

  // Floats that a thread needs.
  std::int64_t query_floats() const { return block_rows_ * query_words_; }
  std::int64_t panel_floats() const;  // with what is dequantised before it

  // Floats that a thread needs for the scales of a block.
  std::int64_t scale_floats() const { return int8_ ? shape_.block_columns : 0; }

  // The rows of a unit, as make_scores() wants them.
  void load_queries(const void* q, const AttentionUnit& unit, float* queries) const;
  // scores[i * block_columns + j] of columns [column, column + count), not yet scaled.
  void make_scores(const KernelArgs& args, const AttentionUnit& unit, const float* queries,
                   std::int64_t column, std::int64_t count, float* scores, Room room) const;
  // sums[i * sums_stride + e] += weights times values; the weights are used up. Both products store whole
  // panels of columns.
  void add_values(const KernelArgs& args, const AttentionUnit& unit, std::int64_t column, std::int64_t count,
                  float* weights, float* sums, std::int64_t sums_stride, Room room) const;

 private:
  void multiply(std::int64_t rows, const float* a, std::int64_t a_stride, const float* panel, std::int64_t k,
                float* c, std::int64_t c_stride, bool accumulate) const;
  void few_scores(std::int64_t rows, const std::byte* keys, const float* queries, std::int64_t count,
                  float* scores) const;
  void few_values(std::int64_t rows, const std::byte* values, std::int64_t count, const float* weights,
                  float* sums, std::int64_t sums_stride) const;
  void pack_keys(const std::byte* keys, std::int64_t count, float* panel) const;
  void pack_values(const std::byte* values, std::int64_t rows, std::int64_t count, float* panel) const;

  // The rows of a block, as products read them: where they are, or dequantised in `room`.
  const std::byte* block_of(const KernelArgs& args, std::size_t operand, const AttentionUnit& unit,
                            std::int64_t column, std::int64_t count, Room room) const;
  void dequantize(const TensorDesc& rows, const std::byte* from, std::int64_t count, Room room) const;
  // x[i][j] times the scale of column j.
  void scale_columns(std::int64_t rows, const float* scales, std::int64_t count, float* x) const;
  std::int64_t dequantized_floats() const;
  bool reads_few(std::size_t operand) const { return operand == kKeys ? few_keys_ : few_values_; }

  static constexpr std::size_t kKeys = 1, kValues = 2, kKeyScales = 4, kValueScales = 5;  // operands

  TensorDesc q_, k_, v_;            // of keys and values: what block_of() returns
  std::vector<TensorDesc> stored_;  // operands
  AttentionShape shape_;
  const Micro* micro_;
  std::int64_t block_rows_, query_words_;
  bool int8_;                   // keys and values, with scales
  bool pairs_;                  // of bfloat16, multiplied as they are
  bool few_keys_, few_values_;  // few rows: keys, values are read where they lie
};

}  // namespace npu::cpu
