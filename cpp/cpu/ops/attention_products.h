// The two products of attention, over one block of columns at a time: queries with keys, weights with values.
#pragma once

#include "cpu/ops/attention_mask.h"

namespace npu::cpu {

class AttentionProducts {
 public:
  // For at most `block_rows` rows of a unit at a time.
  AttentionProducts(const KernelRequest& r, const AttentionShape& shape, std::int64_t block_rows);

  const char* form() const;

  // Floats that a thread needs.
  std::int64_t query_floats() const { return block_rows_ * query_words_; }
  std::int64_t panel_floats() const;

  // The rows of a unit, as make_scores() wants them.
  void load_queries(const void* q, const AttentionUnit& unit, float* queries) const;
  // scores[i * block_columns + j] of columns [column, column + count), not yet scaled.
  void make_scores(const void* k, const AttentionUnit& unit, const float* queries, std::int64_t column,
                   std::int64_t count, float* scores, float* panel) const;
  // sums[i * sums_stride + e] += weights times values; the weights are used up. Both products store whole
  // panels of columns.
  void add_values(const void* v, const AttentionUnit& unit, std::int64_t column, std::int64_t count,
                  float* weights, float* sums, std::int64_t sums_stride, float* panel) const;

 private:
  void multiply(std::int64_t rows, const float* a, std::int64_t a_stride, const float* panel, std::int64_t k,
                float* c, std::int64_t c_stride, bool accumulate) const;
  void few_scores(std::int64_t rows, const std::byte* keys, const float* queries, std::int64_t count,
                  float* scores) const;
  void few_values(std::int64_t rows, const std::byte* values, std::int64_t count, const float* weights,
                  float* sums, std::int64_t sums_stride) const;
  void pack_keys(const std::byte* keys, std::int64_t count, float* panel) const;
  void pack_values(const std::byte* values, std::int64_t rows, std::int64_t count, float* panel) const;

  TensorDesc q_, k_, v_;
  AttentionShape shape_;
  const Micro* micro_;
  std::int64_t block_rows_, query_words_;
  bool pairs_;                  // of bfloat16, multiplied as they are
  bool few_keys_, few_values_;  // few rows: keys, values are read where they lie
};

}  // namespace npu::cpu
