// Windows over spatial dimensions: pooling.
#pragma once

#include "core/geometry/image.h"

namespace npu {

struct WindowGeometry {
  Image x, y, indices;
  Triple window{1, 1, 1}, stride{1, 1, 1}, padding{0, 0, 0}, dilation{1, 1, 1};  // not of adaptive ones

  std::int64_t positions() const { return x.extent[0] * x.extent[1] * x.extent[2]; }  // that indices count
};

WindowGeometry window_geometry(const KernelRequest& request);  // without windows, as adaptive ones are
WindowGeometry pool_geometry(const KernelRequest& request, const PoolAttrs& attrs);

// The cells of one window along one dimension.
struct WindowSpan {
  std::int64_t first = 0, count = 1;  // inside the input; cells are a dilation apart
  std::int64_t covered = 1;           // that an average divides by
};

WindowSpan pool_span(const WindowGeometry& g, std::size_t dim, std::int64_t position, bool count_padding);
WindowSpan adaptive_span(const WindowGeometry& g, std::size_t dim, std::int64_t position);

}  // namespace npu
