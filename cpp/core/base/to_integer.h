// How floating-point numbers become integers, on every device: see "Expressions" in docs/program-format.md.
#pragma once

#include <cstdint>
#include <limits>

#include "npu/dtype.h"

namespace npu {

// Without its fraction, or the nearest that T has; NaN gives 0.
template <class T, class X>
T to_integer(X value) {
  constexpr T least = std::numeric_limits<T>::min(), most = std::numeric_limits<T>::max();
  if (!(value > static_cast<X>(least))) return value != value ? T{0} : least;
  return value >= static_cast<X>(most) ? most : static_cast<T>(value);
}

// The same for an integer dtype.
inline std::int64_t to_integer(double value, DType dtype) {
  switch (dtype) {
    case DType::kInt8:
      return to_integer<std::int8_t>(value);
    case DType::kUInt8:
      return to_integer<std::uint8_t>(value);
    case DType::kInt16:
      return to_integer<std::int16_t>(value);
    case DType::kInt32:
      return to_integer<std::int32_t>(value);
    default:
      return to_integer<std::int64_t>(value);
  }
}

}  // namespace npu
