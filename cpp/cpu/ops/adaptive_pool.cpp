#include "cpu/ops/window.h"

namespace npu::cpu {

Made make_adaptive_pool(const KernelRequest& request) {
  const auto& attrs = std::get<AdaptivePoolAttrs>(request.op.attrs);
  std::vector<WindowAxis> axes;
  for (std::size_t d = 2; d < request.inputs[0].shape.size(); ++d) {
    const std::int64_t in = request.inputs[0].shape[d], out = request.outputs[0].shape[d];
    WindowAxis axis;
    axis.extent = in;
    for (std::int64_t o = 0; o < out; ++o) {
      const std::int64_t first = o * in / out, end = ((o + 1) * in + out - 1) / out;
      axis.first.push_back(first);
      axis.count.push_back(end - first);
      axis.covered.push_back(end - first);
    }
    axes.push_back(std::move(axis));
  }
  return make_windows(request, std::move(axes), attrs.kind == AdaptivePoolAttrs::Kind::kMax, 0,
                      "adaptive_pool");
}

}  // namespace npu::cpu
