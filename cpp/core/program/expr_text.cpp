#include "core/program/expr_text.h"

#include <charconv>
#include <string_view>

namespace npu {

namespace {

// How tightly the operators of a text bind.
enum Strength { kList = 0, kCompare = 1, kSum = 2, kProduct = 3, kWhole = 4 };

struct Infix {
  ExprOp op;
  std::string_view sign;
  Strength strength;
};

constexpr Infix kInfix[] = {
    {ExprOp::kAdd, " + ", kSum},     {ExprOp::kSub, " - ", kSum},     {ExprOp::kMul, " * ", kProduct},
    {ExprOp::kDiv, " / ", kProduct}, {ExprOp::kEq, " == ", kCompare}, {ExprOp::kNe, " != ", kCompare},
    {ExprOp::kLt, " < ", kCompare},  {ExprOp::kLe, " <= ", kCompare}, {ExprOp::kGt, " > ", kCompare},
    {ExprOp::kGe, " >= ", kCompare},
};

struct Part {
  std::string text;
  Strength strength = kWhole;
};

std::string constant_text(const ExprStep& step) {
  if (step.type == 'i') return std::to_string(step.integer);
  if (step.type == 'b') return step.number != 0 ? "true" : "false";
  return number_text(step.number);
}

std::string_view function_name(const ExprStep& step) {
  return step.op == ExprOp::kCast ? dtype_name(step.dtype) : kExprOps[static_cast<std::size_t>(step.op)].name;
}

// Parts that are used once are moved into the text that uses them.
struct ExprText {
  const Expr& expr;
  bool epilogue;
  std::vector<int> uses;
  std::vector<Part> parts;

  std::string take(int at, Strength least) {
    const auto i = static_cast<std::size_t>(at);
    Part& part = parts[i];
    std::string text = uses[i] > 1 ? part.text : std::move(part.text);
    return part.strength < least ? "(" + text + ")" : text;
  }

  Part step(const ExprStep& s) {
    if (s.op == ExprOp::kIn) {
      return {epilogue && s.operand == 0 ? "acc" : "e" + std::to_string(s.operand), kWhole};
    }
    if (s.op == ExprOp::kConst) return {constant_text(s), kWhole};
    if (s.op == ExprOp::kNeg) return {"-" + take(s.args[0], kWhole), kProduct};
    for (const Infix& infix : kInfix) {
      if (infix.op != s.op) continue;
      // To the right of a sign equals stand in parentheses; comparisons do on both sides.
      const auto tighter = static_cast<Strength>(infix.strength + 1);
      std::string text = take(s.args[0], infix.strength == kCompare ? tighter : infix.strength);
      text += infix.sign;
      return {text + take(s.args[1], tighter), infix.strength};
    }
    std::string text(function_name(s));
    text += '(';
    for (int k = 0; k < 3 && s.args[k] >= 0; ++k) text += (k > 0 ? ", " : "") + take(s.args[k], kList);
    return {text + ")", kWhole};
  }
};

}  // namespace

std::string number_text(double number) {
  char digits[32];
  const auto end = std::to_chars(digits, digits + sizeof digits, number).ptr;
  std::string text(digits, end);
  if (text.find_first_of(".en") == std::string::npos) text += ".0";
  return text;
}

std::string expr_text(const Expr& expr, bool epilogue) {
  ExprText texts{expr, epilogue, std::vector<int>(expr.size(), 0), std::vector<Part>(expr.size())};
  for (const ExprStep& step : expr) {
    for (const int arg : step.args) {
      if (arg >= 0) ++texts.uses[static_cast<std::size_t>(arg)];
    }
  }
  // What several steps use gets a name, or the text could grow exponentially.
  std::string all;
  for (std::size_t i = 0; i < expr.size(); ++i) {
    texts.parts[i] = texts.step(expr[i]);
    const bool leaf = expr[i].op == ExprOp::kIn || expr[i].op == ExprOp::kConst;
    if (leaf || texts.uses[i] <= 1 || i + 1 == expr.size()) continue;
    const std::string name = "t" + std::to_string(i);
    all += name + " = " + texts.parts[i].text + "; ";
    texts.parts[i] = {name, kWhole};
  }
  return expr.empty() ? all : all + texts.parts.back().text;
}

}  // namespace npu
