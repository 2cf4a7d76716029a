#pragma once

#include <cmath>
#include <limits>

#include "cpu/element.h"
#include "cpu/ops/ops.h"
#include "cpu/strided.h"

namespace npu::cpu {

// What the elements of a row are multiplied by, from their sum of squares around the mean. As in PyTorch, one
// that float32 cannot hold gives NaN, but for RMS norms.
inline double scale_of(double squares, double count, const NormAttrs& attrs) {
  const bool overflows = squares > static_cast<double>(std::numeric_limits<float>::max());
  if (overflows && attrs.kind != NormAttrs::Kind::kRms) return std::numeric_limits<double>::quiet_NaN();
  return 1.0 / std::sqrt(squares / count + attrs.eps);
}

// A group norm whose channels lie next to each other, or null when the request is another one.
KernelPtr make_channels_last_norm(const KernelRequest& request);

}  // namespace npu::cpu
