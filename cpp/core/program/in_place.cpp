#include "core/program/in_place.h"

#include <algorithm>

namespace npu {

namespace {

bool names(const Op& op, std::size_t result, int operand) {
  const auto& rules = info_of(op.kind).in_place;
  return std::any_of(rules.begin(), rules.end(), [&](const InPlace& rule) {
    return rule.result == static_cast<int>(result) && operand >= rule.first &&
           (operand <= rule.last || rule.last < 0);
  });
}

}  // namespace

bool writes_in_place(const Op& op, std::size_t result) {
  const auto& rules = info_of(op.kind).in_place;
  return std::any_of(rules.begin(), rules.end(),
                     [&](const InPlace& rule) { return rule.result == static_cast<int>(result); });
}

bool may_write_over(const Op& op, std::size_t result, const std::function<bool(const Operand&)>& lies_there) {
  const Operand& out = op.outputs[result];
  for (std::size_t i = 0; i < op.inputs.size(); ++i) {
    const Operand& in = op.inputs[i];
    if (!in.present() || !lies_there(in)) continue;
    const bool alike = in.whole && out.whole && in.shape == out.shape;
    if (!alike || !names(op, result, static_cast<int>(i))) return false;
  }
  return true;
}

}  // namespace npu
