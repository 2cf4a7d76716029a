// What happens to the sums of products and convolutions before they are results.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "core/plan/kernel.h"
#include "cpu/expression.h"
#include "cpu/micro.h"

namespace npu::cpu {

inline constexpr int kMaxExtras = 16;

// Numbers that results are multiplied by and added to, each an extra of one element, or given.
struct ScaleShift {
  bool apply = false;
  int scale = -1, shift = -1;  // extras; -1: the numbers
  float by = 1, plus = 0;
};

// What happens to a sum before it is stored.
class Epilogue {
 public:
  // `extras` are the operands of expression inputs 1, 2, ...; where it is `gated`, those of 2, 3, ...
  Epilogue(const Expr& expr, const std::vector<TensorDesc>& extras, const TensorDesc& out, int column_dim,
           bool gated = false);

  // Sums are float32 results but for a residual, limits, a function, and a scale and shift, in this order:
  // the first two are applied to sums in registers, and the others to what was stored.
  bool in_tile() const { return in_tile_; }
  // The same for results of 16 bits: sums are in float32, and finish_tile does the rest while they are in
  // cache.
  bool after_tile() const { return after_tile_; }
  int residual() const { return residual_; }  // index of the extra, or -1
  const Limits& limits() const { return limits_; }
  // `extras` are where those begin.
  void apply_function(float* results, std::int64_t step, std::int64_t rows, std::int64_t n,
                      const void* const* extras) const {
    if (function_ != ExprOp::kIn) micro().unary_rows(function_, results, step, rows, n);
    if (after_.apply) apply_scale(results, step, rows, n, extras);
  }
  void apply_limits(float* sums, std::int64_t n) const {
    if (limits_.apply) micro().limit(sums, limits_, n);
  }

  std::size_t scratch_bytes() const { return expression_ ? expression_->scratch_bytes() : 0; }

  struct Tile {
    float* sums = nullptr;  // bias included
    std::int64_t sums_step = 0, rows = 0, n = 0;
    const void* residual = nullptr;  // the extra's first element of the tile
    std::int64_t residual_step = 0;
    void* out = nullptr;
    std::int64_t out_step = 0;
    const void* const* extras = nullptr;  // where those begin
  };
  void finish_tile(const Tile& tile) const;
  DType residual_dtype() const { return extras_[static_cast<std::size_t>(residual_)].dtype; }

  int sums_per_result() const { return sums_per_result_; }  // 2 where it is gated

  // Finishes one row of n sums, the second sums `apart` further on; `at` are pointers to the row's
  // first element of each extra.
  void run(float* sums, std::int64_t apart, std::int64_t n, const void* const* at, void* out,
           std::byte* scratch) const;

  // Rows of sums whose results, and whose extras, are evenly spaced.
  struct Rows {
    float* sums = nullptr;  // scratch from here on
    std::int64_t sums_step = 0, apart = 0;
    std::int64_t rows = 0, n = 0;
    const void* at[kMaxExtras] = {};  // of the first row
    std::int64_t extra_steps[kMaxExtras] = {};
    void* out = nullptr;
    std::int64_t out_step = 0;
  };
  void run_rows(const Rows& rows, std::byte* scratch) const;

  const std::vector<TensorDesc>& extras() const { return extras_; }
  int column_dim() const { return column_dim_; }

 private:
  void apply_scale(float* results, std::int64_t step, std::int64_t rows, std::int64_t n,
                   const void* const* extras) const;

  bool in_tile_ = false, after_tile_ = false;
  Limits limits_;
  ScaleShift after_;
  ExprOp function_ = ExprOp::kIn;  // of one operand; kIn: none
  int sums_per_result_ = 1;
  int residual_ = -1;
  std::vector<TensorDesc> extras_;
  DType out_dtype_;
  std::int64_t out_stride_ = 1;
  int column_dim_ = 0;
  std::vector<std::int64_t> strides_;
  std::optional<Expression> expression_;
};

}  // namespace npu::cpu
