// Arithmetic on shapes that come from files: nothing here overflows.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

#include "core/program/program.h"

namespace npu {

inline constexpr std::int64_t kLargestExtent = (std::int64_t{1} << 40) - 1;
inline constexpr std::int64_t kMostBytes = (std::int64_t{1} << 46) - 1;  // of a value, and elements of a view

// The number of elements; nothing when the extents, empty ones left out, multiply to more than kMostBytes. So
// the strides of a shape that passes never overflow.
inline std::optional<std::int64_t> elements_of(const Shape& shape) {
  std::int64_t all = 1;
  bool empty = false;
  for (const std::int64_t extent : shape) {
    if (extent < 0 || extent > kLargestExtent) return std::nullopt;
    empty = empty || extent == 0;
    if (extent == 0) continue;
    if (all > kMostBytes / extent) return std::nullopt;
    all *= extent;
  }
  return empty ? 0 : all;
}

inline Shape row_major_strides(const Shape& shape) {
  Shape strides(shape.size(), 1);
  std::int64_t step = 1;
  for (std::size_t d = shape.size(); d-- > 0; step *= shape[d]) strides[d] = step;
  return strides;
}

inline bool same_extents(const std::vector<Extent>& a, const std::vector<Extent>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const Extent& x, const Extent& y) {
    return x.offset == y.offset && x.scale == y.scale && x.symbol == y.symbol;
  });
}

// Whether the view is the entire value in its own shape; the strides of extents below 2 say nothing.
inline bool covers(const Operand& view, const Value& value) {
  if (view.shape != value.shape || !same_extents(view.extents, value.extents) || view.offset != 0)
    return false;
  const Shape dense = row_major_strides(value.shape);
  for (std::size_t d = 0; d < dense.size(); ++d) {
    if (view.shape[d] > 1 && view.strides[d] != dense[d]) return false;
  }
  return true;
}

}  // namespace npu
