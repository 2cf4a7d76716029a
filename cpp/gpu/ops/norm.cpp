#include "core/geometry/norm.h"

#include "gpu/ops/ops.h"
#include "gpu/ops/rows.h"

namespace npu::gpu {

namespace {

bool is_dense(const Request& r, const NormCut& cut) {
  if (cut.elements.rank > 1 || std::get<NormAttrs>(r.op.attrs).kind == NormAttrs::Kind::kGroup) return false;
  for (int k = 0; k < 4; ++k) {
    const bool absent = k >= 2 && !r.inputs[static_cast<std::size_t>(k) - 1].present();
    if (!absent && !dense(cut.elements, k)) return false;
  }
  return true;
}

void bind_parameters(Dispatch& launch, const Request& r) {
  const DType dtype = r.inputs[0].dtype;
  launch.constant(kFcNormWeight, parameter_kind(r.inputs[1], dtype));
  launch.constant(kFcNormBias, parameter_kind(r.inputs[2], dtype));
  if (r.inputs[1].present()) launch.input(kBufferNormWeight, 1, r);
  if (r.inputs[2].present()) launch.input(kBufferNormBias, 2, r);
}

NormColumnsArgs column_arguments(const Request& r, const NormAttrs& attrs, const ChannelsLastNorm& norm) {
  const TensorDesc &x = r.inputs[0], &y = r.outputs[0], &weight = r.inputs[1], &bias = r.inputs[2];
  NormColumnsArgs args{};
  args.x_batch = x.strides[0];
  args.y_batch = y.strides[0];
  args.x_pixel = norm.pixels.step(1);
  args.y_pixel = norm.pixels.step(0);
  args.weight_step = weight.present() ? weight.strides[0] : 0;
  args.bias_step = bias.present() ? bias.strides[0] : 0;
  args.channels = count32(r.op, norm.channels);
  args.groups = static_cast<std::int32_t>(norm.groups);
  args.each = static_cast<std::int32_t>(norm.channels_of_group());
  args.pixels = count32(r.op, norm.pixels.inner());
  args.eps = static_cast<float>(attrs.eps);
  constexpr std::int64_t kThreadsOfCore = 2048;  // an estimate: docs/metal.md, Thresholds
  const std::int64_t columns = norm.images * norm.channels, wanted = kThreadsOfCore * r.caps.cores;
  const std::int64_t parts = std::clamp<std::int64_t>(ceil_div(wanted, columns), 1, ceil_div(args.pixels, 8));
  args.part = static_cast<std::int32_t>(ceil_div(args.pixels, parts));
  args.parts = static_cast<std::int32_t>(ceil_div(args.pixels, args.part));
  args.images = count32(r.op, norm.images);
  return args;
}

void add_columns(GpuKernel& kernel, const Request& r, const NormAttrs& attrs, const ChannelsLastNorm& norm) {
  constexpr std::uint32_t kThreads = 64;
  const NormColumnsArgs args = column_arguments(r, attrs, norm);
  const auto images = static_cast<std::uint32_t>(norm.images);
  const std::int64_t spreads = std::int64_t{kSpreadBytes} * images * args.parts * args.channels,
                     factors = std::int64_t{kFactorBytes} * images * args.groups;
  kernel.set_scratch(spreads + factors);
  const auto launch = [&](const char* name) {
    Dispatch dispatch("norm", function_name(name, r.inputs[0].dtype));
    dispatch.with(args).constant(kFcNormRms, false).input(kBufferX, 0, r);
    return dispatch.constant(kFcRowsShare, 0).constant(kFcRowsVectors, 1);
  };
  const Size all{ceil_div(args.channels, kThreads), static_cast<std::uint32_t>(args.parts), images};
  Dispatch measure = launch("norm_columns_measure"), join = launch("norm_columns_join"),
           apply = launch("norm_columns_apply");
  measure.constant(kFcNormWeight, 0).constant(kFcNormBias, 0);
  measure.scratch(kBufferNormSpreads, 0, spreads, false, true).grid(all, {kThreads, 1, 1});
  join.constant(kFcNormWeight, 0).constant(kFcNormBias, 0);
  join.scratch(kBufferNormSpreads, 0, spreads, true, false);
  join.scratch(kBufferNormFactors, spreads, factors, false, true);
  join.grid({static_cast<std::uint32_t>(args.groups), images, 1}, {kSimd, 1, 1});
  apply.output(kBufferY, 0, r).scratch(kBufferNormFactors, spreads, factors, true, false);
  bind_parameters(apply, r);
  apply.grid(all, {kThreads, 1, 1});
  kernel.add(std::move(measure));
  kernel.add(std::move(join));
  kernel.add(std::move(apply));
}

void add_rows(GpuKernel& kernel, const Request& r, const NormAttrs& attrs) {
  const NormCut cut = cut_norm(attrs, r.outputs[0], r.inputs[0], r.inputs[1], r.inputs[2]);
  NormArgs args{};
  args.rows = nest_of<4>(r.op, cut.rows);
  args.elements = nest_of<4>(r.op, cut.elements);
  args.count = count32(r.op, cut.rows.elements());
  args.n = count32(r.op, cut.elements.elements());
  args.eps = static_cast<float>(attrs.eps);
  const bool columns = in_columns(cut.rows, cut.elements.step(1));
  const RowPlan plan = plan_rows(args.count, args.n, is_dense(r, cut), columns, r.caps);
  Dispatch launch("norm", function_name(plan.in_registers ? "norm_dense" : "norm_any", r.inputs[0].dtype));
  launch.with(args).constant(kFcNormRms, attrs.kind == NormAttrs::Kind::kRms);
  launch.input(kBufferX, 0, r).output(kBufferY, 0, r);
  bind_parameters(launch, r);
  plan.apply(launch);
  kernel.add(std::move(launch));
}

}  // namespace

KernelPtr make_norm(const Request& request) {
  // Elements that are worth three launches; an estimate: docs/metal.md, Thresholds.
  constexpr std::int64_t kMany = 1 << 16;
  static constexpr const char* kNames[] = {"norm[layer]", "norm[rms]", "norm[group]"};
  Request r = request;
  r.inputs.resize(3);
  const auto& attrs = std::get<NormAttrs>(r.op.attrs);
  const TensorDesc &x = r.inputs[0], &y = r.outputs[0];
  auto kernel = std::make_unique<GpuKernel>(kNames[static_cast<int>(attrs.kind)]);
  if (x.elements() == 0) return kernel;
  kernel->set_cost(7.0 * static_cast<double>(x.elements()));
  const auto columns = channels_last_norm(attrs, y, x);
  if (columns && x.elements() >= kMany) {
    add_columns(*kernel, r, attrs, *columns);
  } else {
    add_rows(*kernel, r, attrs);
  }
  return kernel;
}

}  // namespace npu::gpu
