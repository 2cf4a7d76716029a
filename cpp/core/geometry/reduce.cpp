#include "core/geometry/reduce.h"

namespace npu {

ReduceCut cut_reduce(const std::vector<std::int64_t>& axes, const TensorDesc& y, const TensorDesc& x) {
  std::vector<bool> drop(x.shape.size(), false);
  for (const std::int64_t axis : axes) drop[static_cast<std::size_t>(axis)] = true;
  std::vector<bool> keep = drop;
  keep.flip();
  ReduceCut cut;
  cut.kept = make_nest(without(x.shape, drop), {without(y.strides, drop), without(x.strides, drop)});
  cut.reduced = make_nest(without(x.shape, keep), {without(x.strides, keep)});
  cut.results = cut.kept.elements();
  cut.elements = cut.reduced.elements();
  return cut;
}

}  // namespace npu
