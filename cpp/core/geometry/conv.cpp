#include "core/geometry/conv.h"

namespace npu {

ConvGeometry conv_geometry(const ConvAttrs& attrs, const TensorDesc& x, const TensorDesc& weight,
                           const TensorDesc& out) {
  const Image from = image_of(x), to = image_of(out), filter = image_of(weight);
  ConvGeometry g;
  g.batch = from.batch;
  g.in_channels = from.channels;
  g.out_channels = to.channels;
  g.groups = attrs.groups;
  g.in = from.extent;
  g.out = to.extent;
  g.kernel = filter.extent;
  g.stride = spatial(attrs.stride, 1);
  g.low = spatial(attrs.padding_low, 0);
  g.dilation = spatial(attrs.dilation, 1);
  g.up = spatial(attrs.input_dilation, 1);
  g.x_batch = from.batch_step;
  g.x_channel = from.channel_step;
  g.x_step = from.step;
  g.out_batch = to.batch_step;
  g.out_channel = to.channel_step;
  g.out_step = to.step;
  g.weight_column = filter.batch_step;
  g.weight_channel = filter.channel_step;
  g.weight_step = filter.step;
  return g;
}

std::int64_t ConvGeometry::even_pixel_step() const {
  if (taps() != 1) return 0;
  std::int64_t step = 0, expected = 0;
  const auto continues = [&](std::int64_t extent, std::int64_t next) {
    if (extent == 1) return true;
    if (step == 0) step = expected = next;
    if (next != expected) return false;
    expected *= extent;
    return true;
  };
  for (std::size_t d = 3; d-- > 0;) {
    if (in[d] != out[d] || stride[d] != 1 || up[d] != 1 || low[d] != 0) return 0;
    if (!continues(in[d], x_step[d])) return 0;
  }
  return continues(batch, x_batch) ? step : 0;
}

std::string weight_text(const TensorDesc& weight) {
  std::string text;
  for (const std::int64_t extent : weight.shape) text += " " + std::to_string(extent);
  for (const std::int64_t stride : weight.strides) text += "," + std::to_string(stride);
  return text;
}

}  // namespace npu
