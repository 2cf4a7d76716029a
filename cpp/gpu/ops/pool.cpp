#include "gpu/ops/ops.h"
#include "gpu/ops/window.h"

namespace npu::gpu {

KernelPtr make_pool(const Request& r) {
  const auto& attrs = std::get<PoolAttrs>(r.op.attrs);
  const WindowGeometry g = pool_geometry(r, attrs);
  for (std::size_t d = 0; d < 3; ++d)
    count32(r.op, g.x.extent[d] + g.window[d] * g.dilation[d] + 2 * g.padding[d]);
  return make_windows(r, g,
                      {.maximum = attrs.kind == PoolAttrs::Kind::kMax,
                       .count_padding = attrs.count_padding,
                       .divisor = attrs.divisor},
                      "pool");
}

}  // namespace npu::gpu
