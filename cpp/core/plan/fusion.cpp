#include "core/plan/fusion.h"

#include <algorithm>

#include "core/plan/fusion_rules.h"

namespace npu {

namespace {

// How often each value is read, and which ones are written in place during the run.
struct Uses {
  explicit Uses(const ProgramModel& program)
      : reads(program.values.size()), kept(program.values.size(), true) {
    for (const Op& op : program.main) {
      for (const Operand& in : op.inputs) {
        if (in.present()) ++reads[static_cast<std::size_t>(in.value)];
      }
    }
    for (const ProgramOutput& output : program.outputs) {
      ++reads[static_cast<std::size_t>(output.value)];
      if (output.alias < 0) continue;
      kept[static_cast<std::size_t>(program.inputs[static_cast<std::size_t>(output.alias)].value)] = false;
    }
  }
  std::vector<int> reads;
  std::vector<bool> kept;
};

// Whether the op can be put off until the one that reads its result runs.
bool may_wait(const Op& op, const Uses& uses) {
  if (op.outputs.size() != 1) return false;
  const Operand& out = op.outputs[0];
  if (!out.whole || !out.extents.empty() || uses.reads[static_cast<std::size_t>(out.value)] != 1)
    return false;
  return std::all_of(op.inputs.begin(), op.inputs.end(), [&](const Operand& in) {
    return !in.present() || (uses.kept[static_cast<std::size_t>(in.value)] && in.extents.empty());
  });
}

}  // namespace

std::optional<Op> joined(const Op& before, const Op& op) {
  for (const FusionRule& rule : fusion_rules()) {
    if (rule.before != before.kind || rule.op != op.kind) continue;
    if (auto both = rule.join(before, op)) return both;
  }
  return std::nullopt;
}

std::vector<std::vector<std::size_t>> fusible_ops(const ProgramModel& program) {
  const Uses uses(program);
  std::vector<int> maker(program.values.size(), -1);  // that may wait
  std::vector<std::vector<std::size_t>> fusible(program.main.size());
  for (std::size_t i = 0; i < program.main.size(); ++i) {
    const Op& op = program.main[i];
    std::optional<Op> both = op;
    while (both) {
      const Op reader = *both;
      both.reset();
      for (const Operand& in : reader.inputs) {
        const int at = in.present() ? maker[static_cast<std::size_t>(in.value)] : -1;
        if (at < 0) continue;
        both = joined(program.main[static_cast<std::size_t>(at)], reader);
        if (!both) continue;
        fusible[i].push_back(static_cast<std::size_t>(at));
        break;
      }
    }
    if (may_wait(op, uses)) maker[static_cast<std::size_t>(op.outputs[0].value)] = static_cast<int>(i);
  }
  return fusible;
}

}  // namespace npu
