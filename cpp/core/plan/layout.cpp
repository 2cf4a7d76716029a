#include "core/plan/layout.h"

namespace npu {

std::int64_t TensorDesc::elements() const {
  std::int64_t n = 1;
  for (const auto extent : shape) n *= extent;
  return n;
}

Shape dense_strides(const Shape& shape, Layout layout) {
  Shape strides(shape.size(), 1);
  const std::size_t rank = shape.size();
  std::int64_t step = 1;
  if (layout == Layout::kChannelsLast && rank >= 3) {
    strides[1] = 1;
    step = shape[1];
    for (std::size_t d = rank; d-- > 2; step *= shape[d]) strides[d] = step;
    strides[0] = step;
    return strides;
  }
  for (std::size_t d = rank; d-- > 0; step *= shape[d]) strides[d] = step;
  return strides;
}

namespace {

// Which dimension of the value a step of `stride` elements moves along, given where the view starts and how
// far its other dimensions already reach.
struct Walk {
  const Shape& shape;
  const Shape& row_major;
  Shape low, high;  // coordinates reached so far

  std::optional<std::size_t> take(std::int64_t stride, std::int64_t extent) {
    for (std::size_t d = 0; d < shape.size(); ++d) {
      if (shape[d] <= 1 || stride % row_major[d] != 0) continue;
      const std::int64_t reach = stride / row_major[d] * (extent - 1);
      const std::int64_t lo = low[d] + (reach < 0 ? reach : 0), hi = high[d] + (reach > 0 ? reach : 0);
      if (lo < 0 || hi >= shape[d]) continue;
      low[d] = lo;
      high[d] = hi;
      return d;
    }
    return std::nullopt;
  }
};

}  // namespace

std::optional<PhysicalOperand> physical_operand(const Operand& operand, const Value& value, Layout layout) {
  PhysicalOperand result;
  result.desc.present_ = true;
  result.desc.dtype = value.dtype;
  result.desc.shape = operand.shape;
  if (layout == Layout::kRowMajor) {
    result.desc.strides = operand.strides;
    result.offset = operand.offset;
    return result;
  }
  const Shape physical = dense_strides(value.shape, layout);
  if (operand.whole) {
    result.desc.strides = physical;
    return result;
  }
  const Shape row_major = dense_strides(value.shape, Layout::kRowMajor);
  Shape start(value.shape.size(), 0);
  std::int64_t rest = operand.offset;
  for (std::size_t d = 0; d < start.size(); ++d) {
    if (row_major[d] == 0 || value.shape[d] == 0) return std::nullopt;
    start[d] = rest / row_major[d];
    rest %= row_major[d];
    result.offset += start[d] * physical[d];
  }
  Walk walk{value.shape, row_major, start, start};
  for (std::size_t d = 0; d < operand.shape.size(); ++d) {
    const std::int64_t stride = operand.strides[d], extent = operand.shape[d];
    if (extent <= 1 || stride == 0) {
      result.desc.strides.push_back(0);
      continue;
    }
    const auto along = walk.take(stride, extent);
    if (!along) return std::nullopt;
    result.desc.strides.push_back(stride / row_major[*along] * physical[*along]);
  }
  return result;
}

}  // namespace npu
