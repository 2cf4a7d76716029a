#include "cpu/ops/window.h"

namespace npu::cpu {

KernelPtr make_adaptive_pool(const KernelRequest& request) {
  const auto& attrs = std::get<AdaptivePoolAttrs>(request.op.attrs);
  const WindowGeometry g = window_geometry(request);
  const auto span = [&](std::size_t dim, std::int64_t position) { return adaptive_span(g, dim, position); };
  return make_windows(request, g, span, attrs.kind == AdaptivePoolAttrs::Kind::kMax, 0, "adaptive_pool");
}

}  // namespace npu::cpu
