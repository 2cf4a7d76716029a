#include "core/geometry/axis.h"
#include "gpu/ops/launch.h"
#include "gpu/ops/ops.h"

namespace npu::gpu {

namespace {

constexpr std::uint32_t kThreads = 256;

// Parts of a row, so that few long rows keep the device busy. Each part looks at the totals of all before it.
void cut_parts(ScanArgs& args, const Caps& caps) {
  constexpr std::int64_t kShortest = 8192, kMost = 1024,
                         kGroupsPerCore = 4;  // an estimate: docs/metal.md, Thresholds
  const std::int64_t groups = kGroupsPerCore * caps.cores, n = args.n;
  std::int64_t parts = std::clamp<std::int64_t>(groups / args.count, 1, kMost);
  parts = std::min<std::int64_t>(parts, ceil_div(n, kShortest));
  const std::int64_t part = ceil_div(ceil_div(n, parts), kScanEach * kThreads) * kScanEach * kThreads;
  args.part = static_cast<std::int32_t>(part);
  args.parts = static_cast<std::int32_t>(ceil_div(n, part));
}

}  // namespace

KernelPtr make_scan(const Request& r) {
  const auto& attrs = std::get<ScanAttrs>(r.op.attrs);
  const TensorDesc &x = r.inputs[0], &y = r.outputs[0];
  const bool product = attrs.kind == ScanAttrs::Kind::kProd;
  auto kernel = std::make_unique<GpuKernel>(product ? "scan[prod]" : "scan[sum]");
  if (y.elements() == 0) return kernel;
  const auto [n, steps, rows] = cut_axis(attrs.axis, {&y, &x});
  ScanArgs args{};
  args.rows = nest_of<2>(r.op, rows);
  args.count = count32(r.op, rows.elements());
  args.n = count32(r.op, n);
  args.y_step = steps[0];
  args.x_step = steps[1];
  kernel->set_cost(static_cast<double>(y.elements()));

  const auto launch = [&](const char* name) {
    Dispatch dispatch("scan", function_name(name, x.dtype));
    dispatch.with(args).constant(kFcScanProduct, product).constant(kFcScanParts, args.parts > 1);
    dispatch.input(kBufferX, 0, r);
    return dispatch;
  };
  const bool neighbours = in_columns(rows, args.x_step);
  const bool many = args.count >= 256 * r.caps.cores;
  if (args.n <= 16 || (neighbours && (many || args.n <= 512))) {
    Dispatch columns = launch("scan_columns");
    kernel->add(columns.output(kBufferY, 0, r).grid({ceil_div(args.count, 64), 1, 1}, {64, 1, 1}));
    return kernel;
  }
  cut_parts(args, r.caps);
  const Size groups{static_cast<std::uint32_t>(args.parts), static_cast<std::uint32_t>(args.count), 1};
  const std::int64_t bytes = args.parts > 1 ? std::int64_t{kCarriedBytes} * args.parts * args.count : 0;
  if (bytes > 0) {
    Dispatch totals = launch("scan_totals");
    kernel->add(totals.scratch(kBufferScanTotals, 0, bytes, false, true).grid(groups, {kThreads, 1, 1}));
    kernel->set_scratch(bytes);
  }
  Dispatch scan = launch("scan_rows");
  scan.output(kBufferY, 0, r).grid(groups, {kThreads, 1, 1});
  if (bytes > 0) scan.scratch(kBufferScanTotals, 0, bytes, true, false);
  kernel->add(std::move(scan));
  return kernel;
}

}  // namespace npu::gpu
