#include "copy.h"
#include "indexed.h"
#include "ops.h"

namespace npu::gpu {

namespace {

using Kind = ScatterAttrs::Kind;

// Positions of updates, apart: along `kept` dimensions different ones go to different places, along `free`
// ones they may meet.
struct Cut {
  Nest kept, free;  // of the place in out, updates, indices
};

Cut cut(const Request& r, const ScatterAttrs& attrs) {
  const TensorDesc &updates = r.inputs[1], &out = r.outputs[0];
  std::vector<Shape> strides = {place_strides(updates.shape, out, attrs.dims), updates.strides};
  for (std::size_t k = 0; k < attrs.axes.size(); ++k) strides.push_back(r.inputs[2 + k].strides);
  std::vector<bool> is_kept(updates.shape.size(), false), is_free(updates.shape.size(), true);
  for (const std::int64_t d : attrs.dims) {
    if (d < 0) continue;
    is_kept[static_cast<std::size_t>(d)] = true;
    is_free[static_cast<std::size_t>(d)] = false;
  }
  const auto part = [&](const std::vector<bool>& drop, bool reorder) {
    std::vector<Shape> some;
    for (const Shape& s : strides) some.push_back(without(s, drop));
    return make_nest(without(updates.shape, drop), some, reorder);
  };
  return {part(is_free, true), part(is_kept, false)};
}

}  // namespace

Made make_scatter(const Request& r) {
  static constexpr const char* kNames[] = {"scatter[set]", "scatter[add]", "scatter[mul]", "scatter[max]",
                                           "scatter[min]"};
  const auto& attrs = std::get<ScatterAttrs>(r.op.attrs);
  const TensorDesc &updates = r.inputs[1], &out = r.outputs[0];
  auto kernel = std::make_unique<GpuKernel>(kNames[static_cast<int>(attrs.kind)]);
  add_copy(*kernel, r, 0, 0);
  if (updates.elements() == 0) return kernel;

  const Cut positions = cut(r, attrs);
  const bool set = attrs.kind == Kind::kSet;
  Moved all{positions.kept, size_of(out.dtype), false};
  if (set && whole_rows(positions.kept)) {
    Shape further = axis_steps(out, attrs.axes);
    for (int d = 0; d < positions.free.rank; ++d) {
      if (positions.free.elements() > 1)
        further.push_back(positions.free.strides[1][static_cast<std::size_t>(d)]);
    }
    all = moved(positions.kept, out.dtype, std::min(updates.alignment, out.alignment), further);
  }
  ScatterArgs args{};
  args.kept = nest_of<2 + NPU_MAX_INDICES>(r.op, all.nest);
  args.free = nest_of<2 + NPU_MAX_INDICES>(r.op, positions.free);
  for (std::int64_t& step : args.free.step[1])
    step = step * static_cast<std::int64_t>(size_of(out.dtype)) / static_cast<std::int64_t>(all.word);
  args.updates = count32(r.op, positions.free.elements());
  fill_axes(args.axes, r, out, attrs.axes, 2, all.word);
  Dispatch launch("scatter", set ? all.function("scatter_set") : function_name("scatter_combine", out.dtype));
  launch.with(args).constant(2, all.dense).constant(3, static_cast<std::int32_t>(attrs.kind));
  launch.input(1, 1, r).update(2, 0, r);
  bind_indices(launch, r, attrs.axes.size(), 2, attrs.wrap);
  over_rows(launch, all.columns(), all.nest.rows);
  kernel->add(std::move(launch));
  kernel->set_cost(0,
                   2.0 * static_cast<double>(updates.elements()) * static_cast<double>(size_of(out.dtype)));
  return kernel;
}

}  // namespace npu::gpu
