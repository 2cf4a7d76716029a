// Sums of a few rows of a product, some columns at a time, and the results that they become.
#pragma once

#include <algorithm>

#include "cpu/ops/matmul.h"
#include "cpu/strided.h"

namespace npu::cpu {

class RowResults {
 public:
  static constexpr std::int64_t kChunk = 512;  // columns finished at a time
  static constexpr std::int64_t kGroup = 16;   // columns that are not shared out

  RowResults(const KernelRequest& r, const MatmulGeometry& g)
      : r_(r),
        g_(g),
        micro_(&micro()),
        epilogue_(std::get<MatmulAttrs>(r.op.attrs).epilogue, extras_of(r), r.outputs[0],
                  static_cast<int>(g.rank) - 1, std::get<MatmulAttrs>(r.op.attrs).halves) {}

  std::int64_t sums_per_result() const { return epilogue_.sums_per_result(); }
  bool maps() const { return !epilogue_.in_tile() && !epilogue_.after_tile(); }
  double flops() const {
    return 2.0 * static_cast<double>(g_.batches * g_.rows * sums_per_result()) *
           static_cast<double>(g_.columns * g_.depth);
  }

  // Ranges of groups of columns, one for each piece of work; a column of weights takes `bytes`.
  std::vector<Range> pieces(double bytes) const;

  // The sums of a chunk, `sums_stride()` from row to row and those of the second half kChunk further on, and
  // what finishing them takes.
  std::size_t scratch_bytes() const {
    return round_up(static_cast<std::size_t>((g_.rows * sums_per_result() + 1) * kChunk) * sizeof(float)) +
           round_up(epilogue_.scratch_bytes());
  }
  std::int64_t sums_stride() const { return sums_per_result() * kChunk; }
  void finish(const KernelArgs& args, std::int64_t batch, std::int64_t column, std::int64_t n,
              float* sums) const;

 private:
  void finish_row(const KernelArgs& args, std::int64_t row, std::int64_t column, std::int64_t n, float* sums,
                  float* buffer) const;

  KernelRequest r_;
  MatmulGeometry g_;
  const Micro* micro_;
  Epilogue epilogue_;
};

}  // namespace npu::cpu
