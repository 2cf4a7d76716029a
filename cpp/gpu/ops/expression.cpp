#include "gpu/ops/expression.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstdint>

#include "core/program/expr_simplify.h"
#include "gpu/plan/gpu_kernel.h"

namespace npu::gpu {

namespace {

std::string float_literal(double number) {
  const auto value = static_cast<float>(number);
  if (std::isnan(value)) return "float(NAN)";
  if (std::isinf(value)) return value > 0 ? "float(INFINITY)" : "float(-INFINITY)";
  char digits[32];
  std::string text(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text + "f";
}

std::string integer_literal(std::int64_t number) {
  // The least one has no literal of its own.
  if (number == INT64_MIN) return "long(0x8000000000000000ul)";
  return std::to_string(number) + "l";
}

std::string constant_text(const ExprStep& step) {
  if (step.type == 'i') return integer_literal(step.integer);
  if (step.type == 'b') return step.number != 0 ? "true" : "false";
  return float_literal(step.number);
}

// How a step is written: $0, $1 and $2 are its operands.
struct Spelling {
  ExprOp op;
  char takes;  // class of the operands, or a for any
  std::string_view text;
};

constexpr Spelling kSpellings[] = {
    {ExprOp::kAdd, 'f', "$0 + $1"},
    {ExprOp::kAdd, 'i', "wrapping_add($0, $1)"},
    {ExprOp::kSub, 'f', "$0 - $1"},
    {ExprOp::kSub, 'i', "wrapping_sub($0, $1)"},
    {ExprOp::kMul, 'f', "$0 * $1"},
    {ExprOp::kMul, 'i', "wrapping_mul($0, $1)"},
    {ExprOp::kMax, 'a', "nan_max($0, $1)"},
    {ExprOp::kMin, 'a', "nan_min($0, $1)"},
    {ExprOp::kDiv, 'f', "$0 / $1"},
    {ExprOp::kPow, 'f', "pow_of($0, $1)"},
    {ExprOp::kFmod, 'f', "fmod_of($0, $1)"},
    {ExprOp::kAtan2, 'f', "precise::atan2($0, $1)"},
    {ExprOp::kCopysign, 'f', "copysign($0, $1)"},
    {ExprOp::kHypot, 'f', "hypot_of($0, $1)"},
    {ExprOp::kIdivFloor, 'i', "div_floor($0, checked_divisor($1, status))"},
    {ExprOp::kIdivTrunc, 'i', "div_trunc($0, checked_divisor($1, status))"},
    {ExprOp::kIremFloor, 'i', "rem_floor($0, checked_divisor($1, status))"},
    {ExprOp::kIremTrunc, 'i', "rem_trunc($0, checked_divisor($1, status))"},
    {ExprOp::kIpow, 'i', "ipow_of($0, $1)"},
    {ExprOp::kAnd, 'i', "$0 & $1"},
    {ExprOp::kOr, 'i', "$0 | $1"},
    {ExprOp::kXor, 'i', "$0 ^ $1"},
    {ExprOp::kShl, 'i', "shift_left($0, $1)"},
    {ExprOp::kShr, 'i', "shift_right($0, $1)"},
    {ExprOp::kLand, 'b', "$0 && $1"},
    {ExprOp::kLor, 'b', "$0 || $1"},
    {ExprOp::kLxor, 'b', "$0 != $1"},
    {ExprOp::kInot, 'i', "~$0"},
    {ExprOp::kLnot, 'b', "!$0"},
    {ExprOp::kEq, 'a', "$0 == $1"},
    {ExprOp::kNe, 'a', "$0 != $1"},
    {ExprOp::kLt, 'a', "$0 < $1"},
    {ExprOp::kLe, 'a', "$0 <= $1"},
    {ExprOp::kGt, 'a', "$0 > $1"},
    {ExprOp::kGe, 'a', "$0 >= $1"},
    {ExprOp::kWhere, 'a', "$0 ? $1 : $2"},
    {ExprOp::kNeg, 'f', "-$0"},
    {ExprOp::kNeg, 'i', "wrapping_neg($0)"},
    {ExprOp::kAbs, 'f', "fabs($0)"},
    {ExprOp::kAbs, 'i', "wrapping_abs($0)"},
    {ExprOp::kSign, 'a', "sign_of($0)"},
    {ExprOp::kRelu, 'a', "relu_of($0)"},
    {ExprOp::kExp, 'f', "exp_of($0)"},
    {ExprOp::kExp2, 'f', "precise::exp2($0)"},
    {ExprOp::kExpm1, 'f', "expm1_of($0)"},
    {ExprOp::kLog, 'f', "log_of($0)"},
    {ExprOp::kLog2, 'f', "precise::log2($0)"},
    {ExprOp::kLog10, 'f', "precise::log10($0)"},
    {ExprOp::kLog1p, 'f', "log1p_of($0)"},
    {ExprOp::kSqrt, 'f', "precise::sqrt($0)"},
    {ExprOp::kRsqrt, 'f', "1.0f / precise::sqrt($0)"},
    {ExprOp::kReciprocal, 'f', "1.0f / $0"},
    {ExprOp::kSin, 'f', "precise::sin($0)"},
    {ExprOp::kCos, 'f', "precise::cos($0)"},
    {ExprOp::kTan, 'f', "precise::tan($0)"},
    {ExprOp::kAsin, 'f', "precise::asin($0)"},
    {ExprOp::kAcos, 'f', "precise::acos($0)"},
    {ExprOp::kAtan, 'f', "precise::atan($0)"},
    {ExprOp::kSinh, 'f', "precise::sinh($0)"},
    {ExprOp::kCosh, 'f', "precise::cosh($0)"},
    {ExprOp::kTanh, 'f', "tanh_of($0)"},
    {ExprOp::kAsinh, 'f', "precise::asinh($0)"},
    {ExprOp::kAcosh, 'f', "precise::acosh($0)"},
    {ExprOp::kAtanh, 'f', "precise::atanh($0)"},
    {ExprOp::kErf, 'f', "erf_of($0)"},
    {ExprOp::kErfc, 'f', "erfc_of($0)"},
    {ExprOp::kSigmoid, 'f', "sigmoid_of($0)"},
    {ExprOp::kSilu, 'f', "silu_of($0)"},
    {ExprOp::kGelu, 'f', "gelu_of($0)"},
    {ExprOp::kGeluTanh, 'f', "gelu_tanh_of($0)"},
    {ExprOp::kSoftplus, 'f', "softplus_of($0)"},
    {ExprOp::kMish, 'f', "mish_of($0)"},
    {ExprOp::kHardswish, 'f', "hardswish_of($0)"},
    {ExprOp::kHardsigmoid, 'f', "hardsigmoid_of($0)"},
    {ExprOp::kFloor, 'f', "floor($0)"},
    {ExprOp::kCeil, 'f', "ceil($0)"},
    {ExprOp::kRound, 'f', "rint($0)"},
    {ExprOp::kTrunc, 'f', "trunc($0)"},
    {ExprOp::kIsnan, 'f', "isnan($0)"},
    {ExprOp::kIsinf, 'f', "isinf($0)"},
};

bool divides(ExprOp op) { return op >= ExprOp::kIdivFloor && op <= ExprOp::kIremTrunc; }

double step_cost(const ExprStep& step) {
  if (step.op == ExprOp::kIn || step.op == ExprOp::kConst) return 0;
  const bool function = step.op > ExprOp::kRelu && step.op < ExprOp::kHardswish;
  return function || step.op == ExprOp::kPow ? 16 : 1;
}

// Rounds, wraps or tests, and gives the register class of the dtype.
std::string cast_text(const ExprStep& step, char from, const std::string& x) {
  const std::string type(msl_type(step.dtype));
  switch (register_class(step.dtype)) {
    case 'f': {
      const std::string wide = "float(" + x + ")";
      return step.dtype == DType::kFloat32 ? wide : "float(" + type + "(" + wide + "))";
    }
    case 'i': {
      if (from == 'f') return "to_integer<" + type + ">(" + x + ")";
      const std::string wide = "long(" + x + ")";
      return step.dtype == DType::kInt64 ? wide : "long(" + type + "(" + wide + "))";
    }
    default:
      return from == 'b' ? x : x + " != 0";
  }
}

class Writer {
 public:
  explicit Writer(const Expr& expr)
      : expr_(with_simple_powers(expr)), names_(expr_.size()), live_(expr_.size(), false) {
    live_.back() = true;
    for (std::size_t i = expr_.size(); i-- > 0;) {
      for (const int arg : expr_[i].args) {
        if (live_[i] && arg >= 0) live_[static_cast<std::size_t>(arg)] = true;
      }
    }
  }

  ExpressionText write(std::string_view name) {
    ExpressionText result;
    std::string body;
    std::vector<std::pair<int, char>> operands;
    for (std::size_t i = 0; i < expr_.size(); ++i) {
      const ExprStep& step = expr_[i];
      if (!live_[i]) continue;
      result.cost += step_cost(step);
      result.divides |= divides(step.op);
      if (step.op == ExprOp::kIn) {
        names_[i] = "e" + std::to_string(step.operand);
        operands.emplace_back(step.operand, step.type);
      } else if (step.op == ExprOp::kConst) {
        names_[i] = constant_text(step);
        if (names_[i].front() == '-') names_[i] = "(" + names_[i] + ")";
      } else {
        names_[i] = "t" + std::to_string(i);
        body += "  const " + std::string(register_type(step.type)) + " " + names_[i] + " = " + spell(step) +
                ";\n";
      }
    }
    std::sort(operands.begin(), operands.end());
    operands.erase(std::unique(operands.begin(), operands.end()), operands.end());
    result.type = expr_.back().type;
    result.function = "inline " + std::string(register_type(result.type)) + " " + std::string(name) + "(";
    for (const auto& [operand, type] : operands) {
      if (!result.operands.empty()) result.function += ", ";
      result.function += std::string(register_type(type)) + " e" + std::to_string(operand);
      result.operands.push_back(operand);
    }
    if (result.divides)
      result.function += std::string(operands.empty() ? "" : ", ") + "device Status* status";
    result.function += ") {\n" + body + "  return " + names_.back() + ";\n}\n";
    return result;
  }

 private:
  const std::string& name_of(int step) const { return names_[static_cast<std::size_t>(step)]; }
  char type_of(int step) const { return expr_[static_cast<std::size_t>(step)].type; }

  std::string spell(const ExprStep& step) const {
    const char takes = type_of(step.args[0]);
    if (step.op == ExprOp::kCast) return cast_text(step, takes, name_of(step.args[0]));
    const auto* spelling = std::find_if(std::begin(kSpellings), std::end(kSpellings), [&](const Spelling& s) {
      return s.op == step.op && (s.takes == 'a' || s.takes == takes);
    });
    std::string text;
    for (std::size_t i = 0; i < spelling->text.size(); ++i) {
      if (spelling->text[i] == '$') {
        text += name_of(step.args[spelling->text[++i] - '0']);
      } else {
        text += spelling->text[i];
      }
    }
    return text;
  }

  Expr expr_;
  std::vector<std::string> names_;
  std::vector<bool> live_;
};

}  // namespace

std::string_view register_type(char type) { return type == 'f' ? "float" : type == 'i' ? "long" : "bool"; }

char register_class(DType dtype) {
  if (dtype == DType::kFloat32 || dtype == DType::kFloat16 || dtype == DType::kBFloat16) return 'f';
  return dtype == DType::kBool ? 'b' : 'i';
}

ExpressionText expression_text(const Expr& expr, std::string_view name) { return Writer(expr).write(name); }

}  // namespace npu::gpu
