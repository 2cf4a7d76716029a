#include "core/geometry/axis.h"
#include "gpu/ops/ops.h"
#include "gpu/ops/rows.h"

namespace npu::gpu {

namespace {

// Few long rows: several threadgroups first find the peaks of parts, then each writes its part.
void add_parts(GpuKernel& kernel, const Request& r, SoftmaxArgs args, bool log) {
  constexpr std::int64_t kShortest = 4096, kGroupsPerCore = 4;  // an estimate: docs/metal.md, Thresholds
  constexpr std::uint32_t kThreads = 256;
  const std::int64_t wanted = ceil_div(kGroupsPerCore * r.caps.cores, args.count);
  const std::int64_t parts = std::min<std::int64_t>(wanted, ceil_div(args.n, kShortest));
  args.part = static_cast<std::int32_t>(ceil_div(args.n, parts));
  args.parts = static_cast<std::int32_t>(ceil_div(args.n, args.part));
  const std::int64_t bytes = std::int64_t{kPeakBytes} * args.count * args.parts;
  const Size groups{static_cast<std::uint32_t>(args.count), static_cast<std::uint32_t>(args.parts), 1};
  const auto launch = [&](const char* name) {
    Dispatch dispatch("softmax", function_name(name, r.inputs[0].dtype));
    dispatch.with(args).constant(kFcRowsShare, static_cast<std::int32_t>(RowShare::kThreadgroup));
    dispatch.constant(kFcRowsVectors, 1).constant(kFcSoftmaxLog, log).constant(kFcSoftmaxParts, true);
    dispatch.input(kBufferX, 0, r);
    return dispatch.grid(groups, {kThreads, 1, 1});
  };
  kernel.set_scratch(bytes);
  Dispatch peaks = launch("softmax_peaks"), rest = launch("softmax_any");
  kernel.add(std::move(peaks.scratch(kBufferSoftmaxPeaks, 0, bytes, false, true)));
  kernel.add(std::move(rest.output(kBufferY, 0, r).scratch(kBufferSoftmaxPeaks, 0, bytes, true, false)));
}

}  // namespace

KernelPtr make_softmax(const Request& r) {
  constexpr std::int64_t kLong = 1 << 15;  // an estimate: docs/metal.md, Thresholds
  const auto& attrs = std::get<SoftmaxAttrs>(r.op.attrs);
  const TensorDesc &x = r.inputs[0], &y = r.outputs[0];
  auto kernel = std::make_unique<GpuKernel>(attrs.log ? "softmax[log]" : "softmax");
  if (y.elements() == 0) return kernel;
  const auto [n, steps, rows] = cut_axis(attrs.axis, {&y, &x});
  SoftmaxArgs args{};
  args.rows = nest_of<2>(r.op, rows);
  args.n = count32(r.op, n);
  args.y_step = steps[0];
  args.x_step = steps[1];
  args.count = count32(r.op, rows.elements());
  args.part = args.n;
  args.parts = 1;
  kernel->set_cost(10.0 * static_cast<double>(y.elements()));
  if (args.n >= kLong && args.count < 2 * r.caps.cores) {
    add_parts(*kernel, r, args, attrs.log);
    return kernel;
  }
  const bool is_dense = args.n == 1 || (args.x_step == 1 && args.y_step == 1);
  const bool columns = in_columns(rows, args.x_step);
  const RowPlan plan = plan_rows(args.count, args.n, is_dense, columns, r.caps);
  Dispatch launch("softmax", function_name(plan.in_registers ? "softmax_dense" : "softmax_any", x.dtype));
  launch.with(args).constant(kFcSoftmaxLog, attrs.log).constant(kFcSoftmaxParts, false);
  launch.input(kBufferX, 0, r).output(kBufferY, 0, r);
  plan.apply(launch);
  kernel->add(std::move(launch));
  return kernel;
}

}  // namespace npu::gpu
