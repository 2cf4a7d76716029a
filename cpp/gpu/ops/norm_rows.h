// Rows of a product that its threadgroups normalise before they multiply them.
#pragma once

#include <optional>
#include <string>

#include "gpu/ops/launch.h"

namespace npu::gpu {

class NormOfRows {
 public:
  std::string name() const;
  NormedRowsArgs args(const MatmulArgs& matmul) const;
  // Tells a launch of a kernel of metal/normed_rows.h of the norm; it has its arguments and all else already.
  void apply(Dispatch& launch) const;
  bool is_constant() const;  // its weight and bias, or they are not there
  // RMS, whose weight is of the rows' dtype and is read in vectors of 16 bytes; no bias.
  bool is_of_vectors() const;
  // Every threadgroup does it again.
  double flops(const GpuKernel& product) const;

 private:
  friend std::optional<NormOfRows> norm_of_rows(const Request&, std::int64_t, const MatmulArgs&);
  explicit NormOfRows(const Request& request) : request_(&request) {}

  const Request* request_;
  NormedRowsArgs args_{};
  std::int64_t rows_ = 0;
};

// For a product of so many rows in each block, with its depth known. Nothing where the norm had better be a
// launch of its own: its parameters lie in a way that the kernel does not read, or the rows are so long that
// less than two threadgroups fit a core.
std::optional<NormOfRows> norm_of_rows(const Request& request, std::int64_t rows, const MatmulArgs& matmul);

}  // namespace npu::gpu
