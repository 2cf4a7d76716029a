#include "msl/literals.h"

namespace npu::msl {

namespace {

bool is_hexadecimal(std::string_view s) { return s.size() > 1 && (s[1] == 'x' || s[1] == 'X'); }

}  // namespace

bool is_float_literal(std::string_view s) {
  return s.find('.') != std::string_view::npos ||
         s.find_first_of(is_hexadecimal(s) ? "pP" : "eE") != std::string_view::npos;
}

FloatLiteral float_literal(std::string_view s) {
  using Type = FloatLiteral::Type;
  const auto without = [&](std::size_t suffix) { return std::string(s.substr(0, s.size() - suffix)); };
  if (s.size() > 2 && s.ends_with("bf") && !is_hexadecimal(s)) return {Type::kBfloat, without(2)};
  if (s.ends_with('h') || s.ends_with('H')) return {Type::kHalf, without(1)};
  return {Type::kFloat, without(s.ends_with('f') || s.ends_with('F') ? 1 : 0)};
}

}  // namespace npu::msl
