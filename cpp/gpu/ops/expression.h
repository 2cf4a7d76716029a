// Expressions as MSL.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/program/opset.gen.h"

namespace npu::gpu {

// A function in MSL that computes an expression for one element. Its text depends on what is computed alone,
// not on any shape, so equal expressions give equal libraries.
struct ExpressionText {
  std::string function;       // its definition
  char type = 'f';            // class of its result
  std::vector<int> operands;  // that it takes, in this order, as e0, e1, ...
  bool divides = false;       // integers: the last parameter is `device Status* status`
  double cost = 0;            // arithmetic operations, roughly
};

// `expr` has at least one step. It calls what metal/expression.h defines.
ExpressionText expression_text(const Expr& expr, std::string_view name);

std::string_view register_type(char type);  // "float", "long" or "bool"
char register_class(DType dtype);

}  // namespace npu::gpu
