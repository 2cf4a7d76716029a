// Expressions in program files.
#pragma once

#include <string_view>
#include <vector>

#include "core/base/file_spot.h"
#include "core/program/opset.gen.h"

namespace npu {

// 'f', 'i' or 'b': the class of the register that an element of this dtype is loaded into.
constexpr char register_class_of(DType dtype) {
  return is_float(dtype) ? 'f' : dtype == DType::kBool ? 'b' : 'i';
}

// `operands` are the classes of what ["in", k] may load. Every step of the result has its class and refers to
// earlier steps only.
Expr read_expr(Json json, std::string_view key, const std::vector<char>& operands, const FileSpot& spot);

// Sets the classes of steps that take from others; the text of the first fault, or nothing.
std::string type_expr(Expr& expr, const std::vector<char>& operands);

}  // namespace npu
