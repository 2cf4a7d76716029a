#include "cpu/ops/window.h"

namespace npu::cpu {

KernelPtr make_pool(const KernelRequest& request) {
  const auto& attrs = std::get<PoolAttrs>(request.op.attrs);
  const WindowGeometry g = pool_geometry(request, attrs);
  const auto span = [&](std::size_t dim, std::int64_t position) {
    return pool_span(g, dim, position, attrs.count_padding);
  };
  return make_windows(request, g, span, attrs.kind == PoolAttrs::Kind::kMax, attrs.divisor, "pool");
}

}  // namespace npu::cpu
