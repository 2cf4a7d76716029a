#include "gpu/ops/map_parts.h"

#include <algorithm>
#include <map>
#include <set>

namespace npu::gpu {

namespace {

bool is_leaf(const ExprStep& step) { return step.op == ExprOp::kIn || step.op == ExprOp::kConst; }

// Copies what some steps need, renumbered; steps that are given as operands become loads.
class Copy {
 public:
  Copy(const Expr& from, const std::vector<int>& operands) : from_(from), operands_(operands) {}

  MapPart part;

  void replace(int step, int operand) {
    copied_[step] = load(operand, from_[static_cast<std::size_t>(step)].type);
  }

  int add(int index) {
    const auto copy = copied_.find(index);
    if (copy != copied_.end()) return copy->second;
    ExprStep step = from_[static_cast<std::size_t>(index)];
    if (step.op == ExprOp::kIn)
      return copied_[index] = load(operands_[static_cast<std::size_t>(step.operand)], step.type);
    for (int& arg : step.args) {
      if (arg >= 0) arg = add(arg);
    }
    return copied_[index] = append(step);
  }

 private:
  int append(const ExprStep& step) {
    part.expr.push_back(step);
    return static_cast<int>(part.expr.size()) - 1;
  }
  int load(int operand, char type) {
    const auto known = std::find(part.operands.begin(), part.operands.end(), operand);
    const auto index = static_cast<int>(known - part.operands.begin());
    if (known == part.operands.end()) part.operands.push_back(operand);
    ExprStep step;
    step.op = ExprOp::kIn;
    step.operand = index;
    step.type = type;
    return append(step);
  }

  const Expr& from_;
  const std::vector<int>& operands_;
  std::map<int, int> copied_;
};

// The steps before `cut` whose results are used after it.
std::vector<int> crossing(const Expr& expr, int cut) {
  std::set<int> steps;
  for (std::size_t i = static_cast<std::size_t>(cut); i < expr.size(); ++i) {
    for (const int arg : expr[i].args) {
      if (arg >= 0 && arg < cut && !is_leaf(expr[static_cast<std::size_t>(arg)])) steps.insert(arg);
    }
  }
  return {steps.begin(), steps.end()};
}

// The cut that the fewest results cross; the last of several.
int best_cut(const Expr& expr, std::size_t most) {
  std::set<int> operands;
  int best = 0;
  std::size_t least = expr.size();
  for (std::size_t i = 0; i + 1 < expr.size(); ++i) {
    for (const int arg : expr[i].args) {
      if (arg >= 0 && expr[static_cast<std::size_t>(arg)].op == ExprOp::kIn)
        operands.insert(expr[static_cast<std::size_t>(arg)].operand);
    }
    if (operands.size() > most) break;
    if (is_leaf(expr[i])) continue;
    const std::size_t crosses = crossing(expr, static_cast<int>(i) + 1).size();
    if (crosses > least) continue;
    least = crosses;
    best = static_cast<int>(i) + 1;
  }
  return best;
}

}  // namespace

std::vector<MapPart> split_expression(const Expr& whole, std::size_t most) {
  std::vector<int> operands;
  for (const ExprStep& step : whole) {
    if (step.op == ExprOp::kIn)
      operands.resize(std::max<std::size_t>(operands.size(), static_cast<std::size_t>(step.operand) + 1));
  }
  for (std::size_t k = 0; k < operands.size(); ++k) operands[k] = static_cast<int>(k);
  Copy all(whole, operands);
  all.add(static_cast<int>(whole.size()) - 1);
  MapPart rest = std::move(all.part);
  std::vector<MapPart> parts;
  while (rest.operands.size() > most) {
    const int cut = best_cut(rest.expr, most);
    Copy after(rest.expr, rest.operands);
    for (const int step : crossing(rest.expr, cut)) {
      Copy before(rest.expr, rest.operands);
      before.add(step);
      parts.push_back(std::move(before.part));
      after.replace(step, -static_cast<int>(parts.size()));
    }
    after.add(static_cast<int>(rest.expr.size()) - 1);
    rest = std::move(after.part);
  }
  parts.push_back(std::move(rest));
  return parts;
}

}  // namespace npu::gpu
