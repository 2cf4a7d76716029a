#include "gpu/ops/window.h"

#include <cstdlib>

namespace npu::gpu {

namespace {

const TensorDesc& indices_of(const Request& r) {
  static const TensorDesc kAbsent;
  return r.outputs.size() > 1 ? r.outputs[1] : kAbsent;
}

WindowArgs arguments(const Request& r, const std::vector<WindowAxis>& axes, std::int64_t divisor) {
  const TensorDesc &x = r.inputs[0], &y = r.outputs[0], &indices = indices_of(r);
  const auto step = [](const TensorDesc& t, std::size_t d) { return t.present() ? t.strides[d] : 0; };
  const std::size_t missing = 3 - axes.size();
  WindowArgs args{};
  std::int64_t flat = 1;
  for (std::size_t d = 0; d < 3; ++d) {
    WindowAxis& axis = args.axes[d];
    axis.in = axis.out = axis.window = axis.stride = axis.dilation = 1;
    if (d < missing) continue;
    axis = axes[d - missing];
    const std::size_t dim = d - missing + 2;
    flat *= x.shape[dim];
    axis.in = count32(r.op, x.shape[dim]);
    axis.out = count32(r.op, y.shape[dim]);
    axis.x_step = x.strides[dim];
    axis.y_step = y.strides[dim];
    axis.indices_step = step(indices, dim);
  }
  count32(r.op, flat);  // positions are counted so
  args.batch = count32(r.op, y.shape[0]);
  args.channels = count32(r.op, y.shape[1]);
  args.divisor = count32(r.op, divisor);
  args.x_batch = x.strides[0];
  args.y_batch = y.strides[0];
  args.indices_batch = step(indices, 0);
  args.x_channel = x.strides[1];
  args.y_channel = y.strides[1];
  args.indices_channel = step(indices, 1);
  return args;
}

std::int64_t cells(const WindowArgs& args, bool adaptive) {
  std::int64_t all = 1;
  for (const WindowAxis& axis : args.axes)
    all *= adaptive ? (axis.in + axis.out - 1) / axis.out : axis.window;
  return all;
}

}  // namespace

Made make_windows(const Request& r, std::vector<WindowAxis> axes, const WindowOptions& options,
                  const std::string& name) {
  const TensorDesc &x = r.inputs[0], &y = r.outputs[0];
  auto kernel = std::make_unique<GpuKernel>(name + (options.maximum ? "[max]" : "[avg]"));
  if (y.elements() == 0) return kernel;
  const WindowArgs args = arguments(r, axes, options.divisor);
  const bool indices = indices_of(r).present();
  const std::size_t last = y.shape.size() - 1;
  const bool single = y.shape[last] == 1;  // then its step says nothing
  const bool channels_last = y.shape[1] > 1 && (single || std::abs(y.strides[1]) < std::abs(y.strides[last]));
  const bool four =
      channels_last && !indices && x.strides[1] == 1 && y.strides[1] == 1 && y.shape[1] % 4 == 0;

  Dispatch launch("window", function_name(four ? "pool_four" : "pool", x.dtype));
  launch.with(args).constant(0, options.maximum).constant(1, options.adaptive).constant(2, channels_last);
  launch.constant(3, indices).constant(4, options.count_padding).input(1, 0, r).output(2, 0, r);
  if (indices) launch.output(3, 1, r);
  const std::int64_t columns = channels_last ? y.shape[1] / (four ? 4 : 1) : y.shape[last];
  over_rows(launch, columns, y.elements() / (channels_last ? y.shape[1] : y.shape[last]));
  kernel->add(std::move(launch));
  kernel->set_cost(static_cast<double>(y.elements() * cells(args, options.adaptive)));
  return kernel;
}

}  // namespace npu::gpu
