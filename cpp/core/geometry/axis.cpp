#include "core/geometry/axis.h"

namespace npu {

AxisCut cut_axis(std::int64_t axis, const std::vector<const TensorDesc*>& operands) {
  const Shape& shape = operands.front()->shape;
  const std::vector<bool> drop = only_axis(shape.size(), axis);
  const auto a = static_cast<std::size_t>(axis);
  AxisCut cut;
  cut.extent = extent_along(*operands.front(), axis);
  std::vector<Shape> strides;
  for (const TensorDesc* operand : operands) {
    if (!operand->present()) {
      cut.steps.push_back(0);
      strides.emplace_back(shape.empty() ? 0 : shape.size() - 1, 0);
      continue;
    }
    cut.steps.push_back(shape.empty() ? 1 : operand->strides[a]);
    strides.push_back(without(operand->strides, drop));
  }
  cut.rows = make_nest(without(shape, drop), strides);
  return cut;
}

}  // namespace npu
