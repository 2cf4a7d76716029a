#include "core/geometry/axis.h"
#include "gpu/ops/launch.h"
#include "gpu/ops/ops.h"

namespace npu::gpu {

KernelPtr make_scan_extreme(const Request& r) {
  const auto& attrs = std::get<ScanExtremeAttrs>(r.op.attrs);
  const TensorDesc &x = r.inputs[0], &values = r.outputs[0], &indices = r.outputs[1];
  const bool maximum = attrs.kind == ScanExtremeAttrs::Kind::kMax;
  auto kernel = std::make_unique<GpuKernel>(maximum ? "scan_extreme[max]" : "scan_extreme[min]");
  if (x.elements() == 0) return kernel;
  const auto [n, steps, rows] = cut_axis(attrs.axis, {&x, &values, &indices});
  ScanExtremeArgs args{};
  args.rows = nest_of<3>(r.op, rows);
  args.count = count32(r.op, rows.elements());
  args.n = count32(r.op, n);
  args.x_step = steps[0];
  args.values_step = steps[1];
  args.indices_step = steps[2];
  kernel->set_cost(2.0 * static_cast<double>(x.elements()));

  // A thread for each row where there are many, or short ones; else a simdgroup.
  const bool columns = n <= 16 || args.count >= 256 * r.caps.cores;
  Dispatch launch("scan_extreme",
                  function_name(columns ? "scan_extreme_columns" : "scan_extreme_rows", x.dtype));
  launch.with(args).constant(kFcScanExtremeMaximum, maximum);
  launch.constant(kFcScanExtremeValues, values.present()).constant(kFcScanExtremeIndices, indices.present());
  launch.input(kBufferX, 0, r);
  if (values.present()) launch.output(kBufferY, 0, r);
  if (indices.present()) launch.output(kBufferScanIndices, 1, r);
  constexpr std::uint32_t kThreads = 64;
  if (columns) {
    launch.grid({ceil_div(args.count, kThreads), 1, 1}, {kThreads, 1, 1});
  } else {
    launch.grid({static_cast<std::uint32_t>(args.count), 1, 1}, {kSimd, 1, 1});
  }
  kernel->add(std::move(launch));
  return kernel;
}

}  // namespace npu::gpu
