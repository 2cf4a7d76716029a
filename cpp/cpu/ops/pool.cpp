#include "cpu/ops/window.h"

namespace npu::cpu {

namespace {

// The cells k of 0 <= k < kernel whose place start + k * dilation is below `end`.
std::int64_t cells_below(std::int64_t end, std::int64_t start, std::int64_t kernel, std::int64_t dilation) {
  if (end <= start) return 0;
  return std::min(kernel, (end - start + dilation - 1) / dilation);
}

WindowAxis axis_of(const PoolAttrs& attrs, std::size_t d, std::int64_t in, std::int64_t out) {
  const std::int64_t kernel = attrs.kernel[d], dilation = std::max<std::int64_t>(attrs.dilation[d], 1);
  WindowAxis axis;
  axis.step = dilation;
  axis.extent = in;
  for (std::int64_t o = 0; o < out; ++o) {
    const std::int64_t start = o * attrs.stride[d] - attrs.padding[d];
    const std::int64_t skipped = std::min(kernel, start < 0 ? (-start + dilation - 1) / dilation : 0);
    const std::int64_t inside = std::max<std::int64_t>(cells_below(in, start, kernel, dilation) - skipped, 0);
    axis.first.push_back(start + skipped * dilation);
    axis.count.push_back(inside);
    axis.covered.push_back(attrs.count_padding ? cells_below(in + attrs.padding[d], start, kernel, dilation)
                                               : inside);
  }
  return axis;
}

}  // namespace

Made make_pool(const KernelRequest& request) {
  const auto& attrs = std::get<PoolAttrs>(request.op.attrs);
  std::vector<WindowAxis> axes;
  for (std::size_t d = 0; d < attrs.kernel.size(); ++d) {
    axes.push_back(axis_of(attrs, d, request.inputs[0].shape[2 + d], request.outputs[0].shape[2 + d]));
  }
  return make_windows(request, std::move(axes), attrs.kind == PoolAttrs::Kind::kMax, attrs.divisor, "pool");
}

}  // namespace npu::cpu
