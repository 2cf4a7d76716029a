#include "core/program/expr_reader.h"

#include <iterator>
#include <string>
#include <unordered_map>

namespace npu {

namespace {

constexpr std::size_t kMostSteps = 4096;
constexpr int kFirstNamed = 3;  // after in, const and cast

const ExprOpInfo& info(ExprOp op) { return kExprOps[static_cast<std::size_t>(op)]; }

std::optional<ExprOp> find_op(std::string_view name) {
  static const auto table = [] {
    std::unordered_map<std::string_view, ExprOp> names;
    for (std::size_t i = 0; i < std::size(kExprOps); ++i)
      names.emplace(kExprOps[i].name, static_cast<ExprOp>(i));
    return names;
  }();
  const auto match = table.find(name);
  if (match == table.end()) return std::nullopt;
  return match->second;
}

// The class that an op gives for the classes it got; 0 when it does not take them. Letters that repeat in
// `takes` must stand for one class.
char result_class(const ExprOpInfo& op, const char* got) {
  char numeric = 0, any = 0;
  for (std::size_t k = 0; k < op.takes.size(); ++k) {
    const char want = op.takes[k];
    if (want == 'n' || want == 'a') {
      char& bound = want == 'n' ? numeric : any;
      if (bound != 0 && bound != got[k]) return 0;
      if (want == 'n' && got[k] == 'b') return 0;
      bound = got[k];
    } else if (want != got[k]) {
      return 0;
    }
  }
  return op.gives == 'n' ? numeric : op.gives == 'a' ? any : op.gives;
}

// Reads one expression; `spot` names the op in errors.
struct ExprReader {
  const FileSpot& spot;
  std::string_view key;

  [[noreturn]] void refuse(std::size_t step, const std::string& what, std::string got = {},
                           std::string expected = {}) const {
    spot.refuse("'" + std::string(key) + "', step " + std::to_string(step) + ": " + what, std::move(got),
                std::move(expected));
  }

  ExprStep constant(const std::vector<Json>& parts, std::size_t at) const {
    ExprStep step;
    step.op = ExprOp::kConst;
    const std::string& type = spot.text(parts[2], key);
    if (type != "f" && type != "i" && type != "b")
      refuse(at, "no such class", parts[2].summary(), "\"f\", \"i\" or \"b\"");
    step.type = type[0];
    if (step.type == 'f') {
      step.number = spot.number(parts[1], key);
    } else if (step.type == 'i') {
      step.integer = spot.integer(parts[1], key, INT64_MIN, INT64_MAX);
    } else {
      const bool yes =
          parts[1].is(JsonKind::kBool) ? parts[1].boolean() : spot.integer(parts[1], key, 0, 1) != 0;
      step.number = yes;
      step.integer = yes;
    }
    return step;
  }

  ExprStep step(Json json, std::size_t at) const {
    spot.array(json, key, 4);
    std::vector<Json> parts;
    for (const Json part : json) parts.push_back(part);
    if (parts.empty()) refuse(at, "is empty");
    const auto op = find_op(spot.text(parts[0], key));
    if (!op) refuse(at, "no such operation", parts[0].summary());
    const std::size_t takes = *op == ExprOp::kIn                              ? 1
                              : *op == ExprOp::kConst || *op == ExprOp::kCast ? 2
                                                                              : info(*op).takes.size();
    if (parts.size() != takes + 1) {
      refuse(at, parts[0].summary() + " takes " + std::to_string(takes), std::to_string(parts.size() - 1));
    }
    if (*op == ExprOp::kConst) return constant(parts, at);
    ExprStep result;
    result.op = *op;
    if (*op == ExprOp::kIn) {
      result.operand = static_cast<int>(spot.integer(parts[1], key, 0, INT32_MAX));
      return result;
    }
    if (*op == ExprOp::kCast) {
      const auto dtype = parse_dtype(spot.text(parts[2], key));
      if (!dtype) refuse(at, "no such dtype", parts[2].summary());
      result.dtype = *dtype;
    }
    for (std::size_t k = 0; k < (*op == ExprOp::kCast ? 1 : takes); ++k) {
      result.args[k] = static_cast<int>(spot.integer(parts[k + 1], key, 0, INT32_MAX));
    }
    return result;
  }
};

}  // namespace

std::string type_expr(Expr& expr, const std::vector<char>& operands) {
  for (std::size_t at = 0; at < expr.size(); ++at) {
    ExprStep& step = expr[at];
    const auto fault = [&](const std::string& text) { return "step " + std::to_string(at) + ": " + text; };
    if (step.op == ExprOp::kConst) continue;
    if (step.op == ExprOp::kIn) {
      if (step.operand < 0 || static_cast<std::size_t>(step.operand) >= operands.size()) {
        return fault("there is no operand " + std::to_string(step.operand));
      }
      step.type = operands[static_cast<std::size_t>(step.operand)];
      continue;
    }
    const std::size_t takes = info(step.op).takes.size();
    char got[4] = {};
    for (std::size_t k = 0; k < takes; ++k) {
      if (step.args[k] < 0 || static_cast<std::size_t>(step.args[k]) >= at) {
        return fault("refers to step " + std::to_string(step.args[k]) + ", which is not an earlier one");
      }
      got[k] = expr[static_cast<std::size_t>(step.args[k])].type;
    }
    step.type = static_cast<int>(step.op) < kFirstNamed ? register_class_of(step.dtype)
                                                        : result_class(info(step.op), got);
    if (step.type == 0) {
      return fault("'" + std::string(info(step.op).name) + "' does not take the classes '" + got + "' but '" +
                   std::string(info(step.op).takes) + "'");
    }
  }
  return {};
}

Expr read_expr(Json json, std::string_view key, const std::vector<char>& operands, const FileSpot& spot) {
  const ExprReader reader{spot, key};
  Expr expr;
  expr.reserve(spot.array(json, key, kMostSteps).size());
  for (const Json item : json) expr.push_back(reader.step(item, expr.size()));
  const std::string fault = type_expr(expr, operands);
  if (!fault.empty()) spot.refuse("'" + std::string(key) + "', " + fault);
  return expr;
}

}  // namespace npu
