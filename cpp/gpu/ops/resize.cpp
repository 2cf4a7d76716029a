#include "core/geometry/resize.h"

#include <cmath>
#include <cstdlib>

#include "gpu/ops/launch.h"
#include "gpu/ops/ops.h"

namespace npu::gpu {

namespace {

using Kind = ResizeAttrs::Kind;
static_assert(static_cast<int>(Kind::kNearest) == static_cast<int>(ResizeKind::kNearest) &&
              static_cast<int>(Kind::kCubic) == static_cast<int>(ResizeKind::kCubic));

// Positions as fractions of whole numbers. They are exact where the ratio of extents is the scale, and to
// 2^-30 of an element where a factor is given that says something else.
void set_positions(ResizeAxis& axis, const ResizeGeometry& g, std::size_t d, double factor) {
  const std::int64_t in = axis.in, out = axis.out;
  if (g.corners) {
    if (out > 1) {
      axis.times = in - 1;
      axis.divisor = out - 1;
    }
    return;
  }
  axis.scale = static_cast<float>(g.scale[d]);
  if (factor == 0 || factor * static_cast<double>(in) == static_cast<double>(out)) {
    axis.times = 2 * in;  // (o + 1/2) * in / out - 1/2
    axis.offset = in - out;
    axis.divisor = 2 * out;
  } else {
    constexpr double kUnit = 0x1p30;
    axis.times = std::llround(kUnit / factor);
    axis.offset = std::llround((0.5 / factor - 0.5) * kUnit);
    axis.divisor = static_cast<std::int64_t>(kUnit);
  }
}

ResizeArgs arguments(const Request& r, const ResizeAttrs& attrs) {
  const ResizeGeometry g = resize_geometry(attrs, r.outputs[0], r.inputs[0]);
  const std::size_t missing = 3 - attrs.scales.size();
  ResizeArgs args{};
  for (std::size_t d = 0; d < 3; ++d) {
    ResizeAxis& axis = args.axes[d];
    axis.in = count32(r.op, g.x.extent[d]);
    axis.out = count32(r.op, g.y.extent[d]);
    axis.x_step = g.x.step[d];
    axis.y_step = g.y.step[d];
    axis.divisor = 1;
    if (d >= missing) set_positions(axis, g, d, attrs.scales[d - missing]);
  }
  args.batch = count32(r.op, g.y.batch);
  args.channels = count32(r.op, g.y.channels);
  args.x_batch = g.x.batch_step;
  args.y_batch = g.y.batch_step;
  args.x_channel = g.x.channel_step;
  args.y_channel = g.y.channel_step;
  return args;
}

bool is_narrow(const ResizeArgs& args) {
  return std::all_of(std::begin(args.axes), std::end(args.axes), [](const ResizeAxis& axis) {
    const std::int64_t most = axis.times * axis.out + std::abs(axis.offset) + axis.divisor;
    return most <= std::numeric_limits<std::int32_t>::max();
  });
}

}  // namespace

KernelPtr make_resize(const Request& r) {
  static constexpr const char* kNames[] = {"resize[nearest]", "resize[nearest]", "resize[linear]",
                                           "resize[cubic]"};
  const auto& attrs = std::get<ResizeAttrs>(r.op.attrs);
  const TensorDesc &x = r.inputs[0], &y = r.outputs[0];
  auto kernel = std::make_unique<GpuKernel>(kNames[static_cast<int>(attrs.kind)]);
  if (y.elements() == 0) return kernel;
  const ResizeArgs args = arguments(r, attrs);
  const std::size_t last = y.shape.size() - 1;
  const bool channels_last = channels_innermost(y);
  const bool four = channels_last && x.strides[1] == 1 && y.strides[1] == 1 && y.shape[1] % 4 == 0;

  Dispatch launch("resize", function_name(four ? "resize_four" : "resize", x.dtype));
  launch.with(args).constant(kFcResizeKind, static_cast<std::int32_t>(attrs.kind));
  launch.constant(kFcResizeChannelsLast, channels_last).constant(kFcResizeNarrow, is_narrow(args));
  launch.constant(kFcResizeDims, static_cast<std::int32_t>(y.shape.size()) - 2);
  launch.input(kBufferX, 0, r).output(kBufferY, 0, r);
  const std::int64_t columns = channels_last ? y.shape[1] / (four ? 4 : 1) : y.shape[last];
  over_rows(launch, columns, y.elements() / (channels_last ? y.shape[1] : y.shape[last]));
  kernel->add(std::move(launch));
  kernel->set_cost(8.0 * static_cast<double>(y.elements()));
  return kernel;
}

}  // namespace npu::gpu
