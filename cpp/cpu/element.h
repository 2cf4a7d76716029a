// Elements as they are stored, and rows of them as registers: float32, int64 or bool.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "core/base/to_integer.h"
#include "cpu/micro.h"
#include "npu/dtype.h"

namespace npu::cpu {

inline float bits_to_float(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline std::uint32_t float_to_bits(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

struct Half {
  std::uint16_t bits;
  Half() = default;
  Half(float value) {  // NOLINT: implicit, as for the built-in types
    const std::uint32_t u = float_to_bits(value), sign = (u >> 16) & 0x8000u, a = u & 0x7fffffffu;
    std::uint32_t h;
    if (a > 0x7f800000u) {
      h = 0x7e00u | ((a >> 13) & 0x3ffu);
    } else if (a >= 0x477ff000u) {  // rounds to 65536 or more
      h = 0x7c00u;
    } else if (a < 0x38800000u) {  // denormal: the addition rounds at the right bit
      h = float_to_bits(bits_to_float(a) + 0.5f) - 0x3f000000u;
    } else {
      h = (a - 0x38000000u + 0xfffu + ((a >> 13) & 1u)) >> 13;
    }
    bits = static_cast<std::uint16_t>(sign | h);
  }
  operator float() const {  // NOLINT: implicit, as for the built-in types
    const std::uint32_t sign = (bits & 0x8000u) << 16, a = bits & 0x7fffu;
    if (a >= 0x7c00u) return bits_to_float(sign | 0x7f800000u | (a & 0x3ffu) << 13);
    if (a >= 0x0400u) return bits_to_float(sign | ((a << 13) + 0x38000000u));
    return bits_to_float(sign | float_to_bits(static_cast<float>(a) * 0x1p-24f));
  }
};

struct BFloat {
  std::uint16_t bits;
  BFloat() = default;
  BFloat(float value) {  // NOLINT: implicit, as for the built-in types
    const std::uint32_t u = float_to_bits(value);
    const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
    bits = static_cast<std::uint16_t>(nan ? (u >> 16) | 0x40u : (u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
  }
  operator float() const {
    return bits_to_float(static_cast<std::uint32_t>(bits) << 16);
  }  // NOLINT: implicit
};

template <class T>
inline constexpr bool kIsFloat =
    std::is_same_v<T, float> || std::is_same_v<T, Half> || std::is_same_v<T, BFloat>;

// What an element is computed in.
template <class T>
using Register =
    std::conditional_t<kIsFloat<T>, float, std::conditional_t<std::is_same_v<T, bool>, bool, std::int64_t>>;

// Calls f with a value of the element type.
template <class F>
decltype(auto) visit_dtype(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kFloat32:
      return f(float{});
    case DType::kFloat16:
      return f(Half{});
    case DType::kBFloat16:
      return f(BFloat{});
    case DType::kInt8:
      return f(std::int8_t{});
    case DType::kInt16:
      return f(std::int16_t{});
    case DType::kInt32:
      return f(std::int32_t{});
    case DType::kInt64:
      return f(std::int64_t{});
    case DType::kUInt8:
      return f(std::uint8_t{});
    case DType::kBool:
      break;
  }
  return f(bool{});
}

// Calls f with an unsigned integer as wide as the element: for ops that only move elements.
template <class F>
decltype(auto) visit_size(std::size_t size, F&& f) {
  switch (size) {
    case 1:
      return f(std::uint8_t{});
    case 2:
      return f(std::uint16_t{});
    case 4:
      return f(std::uint32_t{});
    default:
      return f(std::uint64_t{});
  }
}

inline const IntegerSteps& integer_steps(const Micro& micro, DType dtype) {
  switch (dtype) {
    case DType::kInt8:
      return micro.int8s;
    case DType::kUInt8:
      return micro.uint8s;
    case DType::kInt16:
      return micro.int16s;
    case DType::kInt32:
      return micro.int32s;
    default:
      return micro.int64s;
  }
}

// Where an element lies, by its index.
inline const std::byte* element(const void* base, DType dtype, std::int64_t index) {
  return static_cast<const std::byte*>(base) + index * static_cast<std::int64_t>(size_of(dtype));
}
inline std::byte* element(void* base, DType dtype, std::int64_t index) {
  return static_cast<std::byte*>(base) + index * static_cast<std::int64_t>(size_of(dtype));
}

// Rows of n elements at a distance of `stride`, from or to dense registers. Floats must be of a
// floating-point dtype, and so on; load_floats converts integers and bools as well.
void load_floats(const Micro& micro, DType dtype, const void* x, std::int64_t stride, std::int64_t n,
                 float* y);
void store_floats(const Micro& micro, DType dtype, const float* x, void* y, std::int64_t stride,
                  std::int64_t n);
void load_integers(DType dtype, const void* x, std::int64_t stride, std::int64_t n, std::int64_t* y);
void store_integers(DType dtype, const std::int64_t* x, void* y, std::int64_t stride, std::int64_t n);
void load_bools(const void* x, std::int64_t stride, std::int64_t n, std::uint8_t* y);
void store_bools(const std::uint8_t* x, void* y, std::int64_t stride, std::int64_t n);

// The row itself when it is dense float32, else a copy in `buffer`.
inline const float* float_row(const Micro& micro, DType dtype, const void* x, std::int64_t stride,
                              std::int64_t n, float* buffer) {
  if (dtype == DType::kFloat32 && (stride == 1 || n == 1)) return static_cast<const float*>(x);
  load_floats(micro, dtype, x, stride, n, buffer);
  return buffer;
}

}  // namespace npu::cpu
