#include "gpu/ops/ops.h"
#include "gpu/ops/window.h"

namespace npu::gpu {

namespace {

// Whether every channel gives one number: a reduction, which many threads can share.
bool is_global(const Request& r) {
  if (r.outputs.size() > 1 && r.outputs[1].present()) return false;
  const Shape& shape = r.outputs[0].shape;
  return std::all_of(shape.begin() + 2, shape.end(), [](std::int64_t extent) { return extent == 1; });
}

KernelPtr make_global(const Request& r, bool maximum) {
  Op op = r.op;
  ReduceAttrs attrs;
  attrs.kind = maximum ? ReduceAttrs::Kind::kMax : ReduceAttrs::Kind::kMean;
  for (std::size_t d = 2; d < r.inputs[0].shape.size(); ++d)
    attrs.axes.push_back(static_cast<std::int64_t>(d));
  op.attrs = attrs;
  return make_reduce(Request{{op, r.inputs, r.outputs, r.threads}, r.caps});
}

}  // namespace

KernelPtr make_adaptive_pool(const Request& r) {
  const auto& attrs = std::get<AdaptivePoolAttrs>(r.op.attrs);
  const bool maximum = attrs.kind == AdaptivePoolAttrs::Kind::kMax;
  if (is_global(r)) return make_global(r, maximum);
  return make_windows(r, window_geometry(r), {.maximum = maximum, .adaptive = true}, "adaptive_pool");
}

}  // namespace npu::gpu
