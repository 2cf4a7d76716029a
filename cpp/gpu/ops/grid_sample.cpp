#include "core/geometry/grid_sample.h"

#include "gpu/ops/launch.h"
#include "gpu/ops/ops.h"

namespace npu::gpu {

namespace {

using Kind = GridSampleAttrs::Kind;
using Padding = GridSampleAttrs::Padding;
static_assert(static_cast<int>(Kind::kNearest) == static_cast<int>(GridKind::kNearest) &&
              static_cast<int>(Kind::kCubic) == static_cast<int>(GridKind::kCubic) &&
              static_cast<int>(Padding::kZeros) == static_cast<int>(GridPadding::kZeros) &&
              static_cast<int>(Padding::kReflection) == static_cast<int>(GridPadding::kReflection));

GridArgs arguments(const Request& r, const GridGeometry& g) {
  GridArgs args{};
  for (std::size_t d = 0; d < 3; ++d) {
    GridAxisArgs& axis = args.axes[d];
    axis.x_step = g.x.step[d];
    axis.y_step = g.y.step[d];
    axis.grid_step = g.grid_step[d];
    axis.coordinate = g.grid_coordinate[d];
    axis.in = count32(r.op, g.x.extent[d]);
    axis.out = count32(r.op, g.y.extent[d]);
    axis.scale = g.scale[d];
    axis.span = g.span[d];
  }
  args.x_batch = g.x.batch_step;
  args.y_batch = g.y.batch_step;
  args.grid_batch = g.grid_batch;
  args.x_channel = g.x.channel_step;
  args.y_channel = g.y.channel_step;
  args.batch = count32(r.op, g.y.batch);
  args.channels = count32(r.op, g.y.channels);
  args.shift = g.shift;
  args.low = g.low;
  return args;
}

}  // namespace

KernelPtr make_grid_sample(const Request& r) {
  static constexpr const char* kNames[] = {"grid_sample[nearest]", "grid_sample[linear]",
                                           "grid_sample[cubic]"};
  const auto& attrs = std::get<GridSampleAttrs>(r.op.attrs);
  const TensorDesc &x = r.inputs[0], &grid = r.inputs[1], &y = r.outputs[0];
  auto kernel = std::make_unique<GpuKernel>(kNames[static_cast<int>(attrs.kind)]);
  if (y.elements() == 0) return kernel;
  const GridGeometry g = grid_geometry(attrs, y, x, grid);
  const bool channels_last = channels_innermost(y);

  Dispatch launch("grid_sample", function_name("grid_sample", x.dtype));
  launch.with(arguments(r, g)).constant(kFcGridKind, static_cast<std::int32_t>(attrs.kind));
  launch.constant(kFcGridPadding, static_cast<std::int32_t>(attrs.padding));
  launch.constant(kFcGridDims, static_cast<std::int32_t>(3 - g.first));
  launch.constant(kFcGridChannelsLast, channels_last).constant(kFcGridFloat, grid.dtype == DType::kFloat32);
  launch.input(kBufferX, 0, r).input(kBufferGrid, 1, r).output(kBufferY, 0, r);
  const std::int64_t columns = channels_last ? g.y.channels : g.y.extent[2];
  over_rows(launch, columns, y.elements() / columns);
  kernel->add(std::move(launch));
  kernel->set_cost(20.0 * static_cast<double>(y.elements()));
  return kernel;
}

}  // namespace npu::gpu
