#include "core/geometry/pad.h"

#include <algorithm>
#include <cstdlib>
#include <limits>

namespace npu {

std::vector<PadDim> pad_dims(const PadAttrs& attrs, const TensorDesc& y, const TensorDesc& x) {
  std::vector<PadDim> all;
  for (std::size_t d = 0; d < y.shape.size(); ++d) {
    const PadDim dim{y.shape[d], x.shape[d], attrs.low[d], y.strides[d], x.strides[d]};
    if (dim.out != 1 || dim.padded()) all.push_back(dim);
  }
  // Single elements first: their steps say nothing, and rows shall be long.
  const auto step = [](const PadDim& d) {
    return d.out > 1 ? std::abs(d.y_step) : std::numeric_limits<std::int64_t>::max();
  };
  std::stable_sort(all.begin(), all.end(),
                   [&](const PadDim& a, const PadDim& b) { return step(a) > step(b); });
  std::vector<PadDim> dims;
  for (const PadDim& dim : all) {
    const bool merges = !dims.empty() && !dims.back().padded() && !dim.padded() &&
                        dims.back().y_step == dim.y_step * dim.out &&
                        dims.back().x_step == dim.x_step * dim.out;
    if (merges) {
      dims.back() = {dims.back().out * dim.out, dims.back().in * dim.in, 0, dim.y_step, dim.x_step};
    } else {
      dims.push_back(dim);
    }
  }
  if (dims.empty()) dims.emplace_back();
  return dims;
}

}  // namespace npu
