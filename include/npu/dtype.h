// Element types of tensors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace npu {

enum class DType : std::uint8_t {
  kFloat32,
  kFloat16,
  kBFloat16,
  kInt8,
  kInt16,
  kInt32,
  kInt64,
  kUInt8,
  kBool,
};

inline constexpr int kDTypeCount = 9;

constexpr std::size_t size_of(DType dtype) noexcept {
  constexpr std::size_t sizes[kDTypeCount] = {4, 2, 2, 1, 2, 4, 8, 1, 1};
  return sizes[static_cast<int>(dtype)];
}

constexpr bool is_float(DType dtype) noexcept { return dtype <= DType::kBFloat16; }
constexpr bool is_integer(DType dtype) noexcept { return dtype >= DType::kInt8 && dtype <= DType::kUInt8; }

std::string_view dtype_name(DType dtype) noexcept;  // "float32", ...
std::optional<DType> parse_dtype(std::string_view name) noexcept;

}  // namespace npu
