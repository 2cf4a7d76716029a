#include "gpu/ops/copy.h"
#include "gpu/ops/indexed.h"
#include "gpu/ops/ops.h"
#include "gpu/ops/sort.h"

namespace npu::gpu {

namespace {

using Kind = ScatterAttrs::Kind;

// Positions of updates, apart: along `kept` dimensions different ones go to different elements, along `free`
// ones they may meet.
struct Cut {
  Nest kept, free;  // of the offset in out, updates, indices
};

Cut cut(const IndexedGeometry& g, const TensorDesc& updates, const ScatterAttrs& attrs) {
  std::vector<Shape> strides = {g.offset, updates.strides};
  strides.insert(strides.end(), g.indices.begin(), g.indices.end());
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

// Updates that may meet are sorted by their target where they are many and too few threads would go through
// all of them.
std::int64_t lists_of(const Cut& positions, std::int64_t threads, const Caps& caps) {
  constexpr std::int64_t kFew = 128, kThreadsOfCore = 256;  // an estimate: docs/metal.md, Thresholds
  constexpr std::int64_t kMostBytes = std::int64_t{1} << 30;
  const std::int64_t updates = positions.free.elements();
  if (updates < kFew || threads >= kThreadsOfCore * caps.cores) return 0;
  bool differ = false;  // the indices, along what is kept
  for (std::size_t k = 2; k < positions.kept.strides.size(); ++k) {
    for (int d = 0; d < positions.kept.rank; ++d) {
      const auto i = static_cast<std::size_t>(d);
      differ = differ || (positions.kept.extent[i] > 1 && positions.kept.strides[k][i] != 0);
    }
  }
  const std::int64_t lists = differ ? positions.kept.elements() : 1;
  return 2 * kSortWideItemBytes * lists * updates <= kMostBytes ? lists : 0;
}

Moved words_of(const Request& r, const IndexedGeometry& g, const ScatterAttrs& attrs, const Cut& positions) {
  const TensorDesc &updates = r.inputs[1], &out = r.outputs[0];
  if (attrs.kind != Kind::kSet || !moves_whole_rows(positions.kept))
    return {positions.kept, size_of(out.dtype), false};
  Shape further = axis_strides(g.axes);
  for (int d = 0; d < positions.free.rank && positions.free.elements() > 1; ++d)
    further.push_back(positions.free.strides[1][static_cast<std::size_t>(d)]);
  return moved(positions.kept, out.dtype, std::min(updates.alignment, out.alignment), further);
}

void add_updates(GpuKernel& kernel, const Request& r, const ScatterAttrs& attrs) {
  const TensorDesc& out = r.outputs[0];
  const IndexedGeometry g = scatter_geometry(r, attrs);
  const Cut positions = cut(g, r.inputs[1], attrs);
  const bool set = attrs.kind == Kind::kSet;
  const Moved all = words_of(r, g, attrs, positions);
  ScatterArgs args{};
  args.kept = nest_of<2 + NPU_MAX_INDICES>(r.op, all.nest);
  args.free = nest_of<2 + NPU_MAX_INDICES>(r.op, positions.free);
  for (std::int64_t& step : args.free.step[1])
    step = step * static_cast<std::int64_t>(size_of(out.dtype)) / static_cast<std::int64_t>(all.word);
  args.updates = count32(r.op, positions.free.elements());
  args.lists = static_cast<std::int32_t>(lists_of(positions, all.columns() * all.nest.rows, r.caps));
  fill_axes(args.axes, g.axes, out.dtype, all.word);
  const auto launch = [&](const std::string& name) {
    Dispatch dispatch("scatter", name);
    dispatch.with(args).constant(kFcScatterDense, all.dense);
    dispatch.constant(kFcScatterKind, static_cast<std::int32_t>(attrs.kind));
    dispatch.constant(kFcScatterSorted, args.lists > 0);
    bind_indices(dispatch, r, attrs.axes.size(), 2, attrs.wrap);
    return dispatch;
  };
  Dispatch apply = launch(set ? all.function("scatter_set") : function_name("scatter_combine", out.dtype));
  over_rows(apply.input(kBufferX, 1, r).update(kBufferY, 0, r), all.columns(), all.nest.rows);
  if (args.lists > 0) {
    const std::int64_t bytes = kSortWideItemBytes * args.lists * args.updates;
    Dispatch items = launch("scatter_items");
    over_rows(items.scratch(kBufferScatterItems, 0, bytes, false, true), args.updates, args.lists);
    kernel.add(std::move(items));
    const int sorted = add_item_sort(kernel, args.lists, args.updates);
    apply.groups[2] = static_cast<std::uint32_t>(args.updates);
    apply.scratch(kBufferScatterItems, sorted * bytes, bytes, true, false);
    kernel.set_scratch(2 * bytes);
  }
  kernel.add(std::move(apply));
}

}  // namespace

KernelPtr make_scatter(const Request& r) {
  static constexpr const char* kNames[] = {"scatter[set]", "scatter[add]", "scatter[mul]", "scatter[max]",
                                           "scatter[min]"};
  const auto& attrs = std::get<ScatterAttrs>(r.op.attrs);
  auto kernel = std::make_unique<GpuKernel>(kNames[static_cast<int>(attrs.kind)]);
  add_copy(*kernel, r, 0, 0);
  if (r.inputs[1].elements() > 0) add_updates(*kernel, r, attrs);
  kernel->set_cost(0, 2.0 * static_cast<double>(r.inputs[1].elements()) *
                          static_cast<double>(size_of(r.outputs[0].dtype)));
  return kernel;
}

}  // namespace npu::gpu
