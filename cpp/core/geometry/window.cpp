#include "core/geometry/window.h"

#include <algorithm>

namespace npu {

namespace {

// The cells k of 0 <= k < window whose position start + k * dilation is below `end`.
std::int64_t cells_below(std::int64_t end, std::int64_t start, std::int64_t window, std::int64_t dilation) {
  if (end <= start) return 0;
  return std::min(window, (end - start + dilation - 1) / dilation);
}

}  // namespace

WindowGeometry window_geometry(const KernelRequest& r) {
  WindowGeometry g;
  g.x = image_of(r.inputs[0]);
  g.y = image_of(r.outputs[0]);
  if (r.outputs.size() > 1) g.indices = image_of(r.outputs[1]);
  return g;
}

WindowGeometry pool_geometry(const KernelRequest& r, const PoolAttrs& attrs) {
  WindowGeometry g = window_geometry(r);
  g.window = spatial(attrs.kernel, 1);
  g.stride = spatial(attrs.stride, 1);
  g.padding = spatial(attrs.padding, 0);
  g.dilation = spatial(attrs.dilation, 1);
  return g;
}

WindowSpan pool_span(const WindowGeometry& g, std::size_t dim, std::int64_t position, bool count_padding) {
  const std::int64_t in = g.x.extent[dim], window = g.window[dim], dilation = g.dilation[dim];
  const std::int64_t start = position * g.stride[dim] - g.padding[dim];
  const std::int64_t skipped = std::min(window, start < 0 ? (-start + dilation - 1) / dilation : 0);
  const std::int64_t inside = std::max<std::int64_t>(cells_below(in, start, window, dilation) - skipped, 0);
  const std::int64_t padded = cells_below(in + g.padding[dim], start, window, dilation);
  return {start + skipped * dilation, inside, count_padding ? padded : inside};
}

WindowSpan adaptive_span(const WindowGeometry& g, std::size_t dim, std::int64_t position) {
  const std::int64_t in = g.x.extent[dim], out = g.y.extent[dim];
  const std::int64_t first = position * in / out, end = ((position + 1) * in + out - 1) / out;
  return {first, end - first, end - first};
}

}  // namespace npu
