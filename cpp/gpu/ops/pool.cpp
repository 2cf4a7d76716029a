#include "gpu/ops/ops.h"
#include "gpu/ops/window.h"

namespace npu::gpu {

Made make_pool(const Request& r) {
  const auto& attrs = std::get<PoolAttrs>(r.op.attrs);
  std::vector<WindowAxis> axes;
  for (std::size_t d = 0; d < attrs.kernel.size(); ++d) {
    count32(r.op, r.inputs[0].shape[2 + d] + attrs.kernel[d] * attrs.dilation[d] + 2 * attrs.padding[d]);
    WindowAxis& axis = axes.emplace_back();
    axis.window = static_cast<std::int32_t>(attrs.kernel[d]);
    axis.stride = static_cast<std::int32_t>(attrs.stride[d]);
    axis.padding = static_cast<std::int32_t>(attrs.padding[d]);
    axis.dilation = static_cast<std::int32_t>(attrs.dilation[d]);
  }
  return make_windows(r, std::move(axes),
                      {.maximum = attrs.kind == PoolAttrs::Kind::kMax,
                       .count_padding = attrs.count_padding,
                       .divisor = attrs.divisor},
                      "pool");
}

}  // namespace npu::gpu
