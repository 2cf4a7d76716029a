#include "npu/dtype.h"

namespace npu {

namespace {

constexpr std::string_view kNames[kDTypeCount] = {"float32", "float16", "bfloat16", "int8", "int16",
                                                  "int32",   "int64",   "uint8",    "bool"};

}  // namespace

std::string_view dtype_name(DType dtype) noexcept { return kNames[static_cast<int>(dtype)]; }

std::optional<DType> parse_dtype(std::string_view name) noexcept {
  for (int i = 0; i < kDTypeCount; ++i) {
    if (kNames[i] == name) return static_cast<DType>(i);
  }
  return std::nullopt;
}

}  // namespace npu
