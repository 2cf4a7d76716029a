#include "core/program/expr_simplify.h"

#include <vector>

namespace npu {

namespace {

void simplify_power(ExprStep& step, Expr& before) {
  const ExprStep& exponent = before[static_cast<std::size_t>(step.args[1])];
  if (exponent.op != ExprOp::kConst) return;
  const double power = exponent.number;
  const int base = step.args[0];
  if (power == 2 || power == 3) {
    step.op = ExprOp::kMul;
    step.args[1] = base;
    if (power == 2) return;
    before.push_back(step);
    step.args[0] = static_cast<int>(before.size()) - 1;
  } else if (power == -1) {  // not 0.5: of -inf and -0 a root is something else
    step.op = ExprOp::kReciprocal;
    step.args[1] = -1;
  }
}

}  // namespace

Expr with_simple_powers(const Expr& expr) {
  Expr simple;
  std::vector<int> moved(expr.size());
  for (std::size_t i = 0; i < expr.size(); ++i) {
    ExprStep step = expr[i];
    for (int& arg : step.args) {
      if (arg >= 0) arg = moved[static_cast<std::size_t>(arg)];
    }
    if (step.op == ExprOp::kPow) simplify_power(step, simple);
    moved[i] = static_cast<int>(simple.size());
    simple.push_back(step);
  }
  return simple;
}

}  // namespace npu
