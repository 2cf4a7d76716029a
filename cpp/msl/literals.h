// Numbers as MSL reads them.
#pragma once

#include <string>
#include <string_view>

namespace npu::msl {

struct FloatLiteral {
  enum class Type { kFloat, kHalf, kBfloat };
  Type type = Type::kFloat;
  std::string digits;  // without a suffix
};

// Whether a token of kind `number` has a fraction or an exponent.
bool is_float_literal(std::string_view spelling);
// 1.0 is a float, 1.0h a half, 1.0bf a bfloat.
FloatLiteral float_literal(std::string_view spelling);

}  // namespace npu::msl
