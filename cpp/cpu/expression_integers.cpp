// In what width an expression's integers are computed.
#include <algorithm>
#include <limits>
#include <type_traits>

#include "cpu/element.h"
#include "cpu/expression_build.h"

namespace npu::cpu {

namespace {

bool fits(std::int64_t value, DType dtype) {
  return visit_dtype(dtype, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) {
      return value >= std::numeric_limits<T>::min() && value <= std::numeric_limits<T>::max();
    } else {
      return false;
    }
  });
}

// What a narrow register knows of an integer of an int64 one.
enum class Knows : std::uint8_t { kNothing, kLowBits, kAll };

// Of low bits alone there come low bits.
Knows known(const ExprStep& step, const Knows* args, int count, DType dtype) {
  const bool all = std::all_of(args, args + count, [](Knows k) { return k == Knows::kAll; });
  switch (step.op) {
    case ExprOp::kAdd:
    case ExprOp::kSub:
    case ExprOp::kMul:
    case ExprOp::kNeg:
      return Knows::kLowBits;
    case ExprOp::kAnd:
    case ExprOp::kOr:
    case ExprOp::kXor:
      return all ? Knows::kAll : Knows::kLowBits;
    case ExprOp::kInot:
      return all && dtype != DType::kUInt8 ? Knows::kAll : Knows::kLowBits;
    case ExprOp::kShl:
      return args[1] == Knows::kAll ? Knows::kLowBits : Knows::kNothing;
    case ExprOp::kAbs:  // of the least number
    case ExprOp::kIdivFloor:
    case ExprOp::kIdivTrunc:
    case ExprOp::kIpow:
      return all ? Knows::kLowBits : Knows::kNothing;
    default:
      return all ? Knows::kAll : Knows::kNothing;
  }
}

// Whether registers of `dtype` give what those of int64 do.
bool suffices(const Expr& expr, const std::vector<DType>& operands, DType out, DType dtype) {
  std::vector<Knows> knows(expr.size(), Knows::kAll);  // of integers
  for (std::size_t i = 0; i < expr.size(); ++i) {
    const ExprStep& step = expr[i];
    const bool integer = step.type == 'i';
    if (integer && step.op == ExprOp::kConst) {
      knows[i] = fits(step.integer, dtype) ? Knows::kAll : Knows::kLowBits;
      continue;
    }
    if (integer && step.op == ExprOp::kIn) {
      if (operands[static_cast<std::size_t>(step.operand)] != dtype) return false;
      continue;
    }
    Knows args[3];
    int count = 0;
    bool all = true;
    for (const int arg : step.args) {
      if (arg < 0 || expr[static_cast<std::size_t>(arg)].type != 'i') continue;
      args[count] = knows[static_cast<std::size_t>(arg)];
      all = all && args[count++] == Knows::kAll;
    }
    if (integer && step.op == ExprOp::kCast) {  // which wraps where it comes from an integer
      if (step.dtype != dtype) return false;
    } else if (integer && step.op == ExprOp::kWhere) {
      knows[i] = all ? Knows::kAll : Knows::kLowBits;
    } else if (integer) {
      knows[i] = known(step, args, count, dtype);
      if (knows[i] == Knows::kNothing) return false;
    } else if (!all) {  // comparisons, and conversions to floats and bools
      return false;
    }
  }
  return expr.back().type != 'i' || out == dtype;
}

}  // namespace

DType integer_dtype(const Expr& expr, const std::vector<DType>& operands, DType out) {
  DType dtype = register_class(out) == 'i' ? out : DType::kInt64;
  for (const ExprStep& step : expr) {
    if (step.type != 'i' || step.op != ExprOp::kIn) continue;
    dtype = operands[static_cast<std::size_t>(step.operand)];
    break;
  }
  return dtype != DType::kInt64 && suffices(expr, operands, out, dtype) ? dtype : DType::kInt64;
}

}  // namespace npu::cpu
