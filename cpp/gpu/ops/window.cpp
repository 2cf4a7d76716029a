#include "gpu/ops/window.h"

namespace npu::gpu {

namespace {

WindowArgs arguments(const Request& r, const WindowGeometry& g, std::int64_t divisor) {
  WindowArgs args{};
  for (std::size_t d = 0; d < 3; ++d) {
    WindowAxis& axis = args.axes[d];
    axis.in = count32(r.op, g.x.extent[d]);
    axis.out = count32(r.op, g.y.extent[d]);
    axis.window = count32(r.op, g.window[d]);
    axis.stride = count32(r.op, g.stride[d]);
    axis.padding = count32(r.op, g.padding[d]);
    axis.dilation = count32(r.op, g.dilation[d]);
    axis.x_step = g.x.step[d];
    axis.y_step = g.y.step[d];
    axis.indices_step = g.indices.step[d];
  }
  count32(r.op, g.positions());  // indices are counted so
  args.batch = count32(r.op, g.y.batch);
  args.channels = count32(r.op, g.y.channels);
  args.divisor = count32(r.op, divisor);
  args.x_batch = g.x.batch_step;
  args.y_batch = g.y.batch_step;
  args.indices_batch = g.indices.batch_step;
  args.x_channel = g.x.channel_step;
  args.y_channel = g.y.channel_step;
  args.indices_channel = g.indices.channel_step;
  return args;
}

std::int64_t cells(const WindowArgs& args, bool adaptive) {
  std::int64_t all = 1;
  for (const WindowAxis& axis : args.axes)
    all *= adaptive ? (axis.in + axis.out - 1) / axis.out : axis.window;
  return all;
}

}  // namespace

KernelPtr make_windows(const Request& r, const WindowGeometry& geometry, const WindowOptions& options,
                       const std::string& name) {
  const TensorDesc &x = r.inputs[0], &y = r.outputs[0];
  auto kernel = std::make_unique<GpuKernel>(name + (options.maximum ? "[max]" : "[avg]"));
  if (y.elements() == 0) return kernel;
  const WindowArgs args = arguments(r, geometry, options.divisor);
  const bool indices = r.outputs.size() > 1 && r.outputs[1].present();
  const std::size_t last = y.shape.size() - 1;
  const bool channels_last = channels_innermost(y);
  const bool four =
      channels_last && !indices && x.strides[1] == 1 && y.strides[1] == 1 && y.shape[1] % 4 == 0;

  Dispatch launch("window", function_name(four ? "pool_four" : "pool", x.dtype));
  launch.with(args).constant(kFcWindowMaximum, options.maximum);
  launch.constant(kFcWindowAdaptive, options.adaptive).constant(kFcWindowChannelsLast, channels_last);
  launch.constant(kFcWindowHasIndices, indices).constant(kFcWindowCountPadding, options.count_padding);
  launch.input(kBufferX, 0, r).output(kBufferY, 0, r);
  if (indices) launch.output(kBufferWindowIndices, 1, r);
  const std::int64_t columns = channels_last ? y.shape[1] / (four ? 4 : 1) : y.shape[last];
  over_rows(launch, columns, y.elements() / (channels_last ? y.shape[1] : y.shape[last]));
  kernel->add(std::move(launch));
  kernel->set_cost(static_cast<double>(y.elements() * cells(args, options.adaptive)));
  return kernel;
}

}  // namespace npu::gpu
