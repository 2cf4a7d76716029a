#include "gpu/ops/indexed.h"
#include "gpu/ops/ops.h"

namespace npu::gpu {

KernelPtr make_gather(const Request& r) {
  const auto& attrs = std::get<GatherAttrs>(r.op.attrs);
  const TensorDesc &x = r.inputs[0], &out = r.outputs[0];
  const IndexedGeometry g = gather_geometry(r, attrs);
  std::vector<Shape> strides = {out.strides, g.offset};
  strides.insert(strides.end(), g.indices.begin(), g.indices.end());
  const Nest nest = make_nest(out.shape, strides);
  const bool rows = moves_whole_rows(nest);
  auto kernel = std::make_unique<GpuKernel>(rows ? "gather[rows]" : "gather");
  if (nest.elements() == 0) return kernel;

  Moved all{nest, size_of(out.dtype), false};
  if (rows) all = moved(nest, out.dtype, std::min(x.alignment, out.alignment), axis_strides(g.axes));
  GatherArgs args{};
  args.nest = nest_of<2 + NPU_MAX_INDICES>(r.op, all.nest);
  fill_axes(args.axes, g.axes, x.dtype, all.word);
  Dispatch launch("gather", all.function("gather"));
  launch.with(args).constant(kFcGatherDense, all.dense).input(kBufferX, 0, r).output(kBufferY, 0, r);
  bind_indices(launch, r, attrs.axes.size(), 1, attrs.wrap);
  over_rows(launch, all.columns(), all.nest.rows);
  kernel->add(std::move(launch));
  // What is read of x is as much as is written.
  kernel->set_cost(0, 2.0 * static_cast<double>(out.elements()) * static_cast<double>(size_of(out.dtype)));
  return kernel;
}

}  // namespace npu::gpu
