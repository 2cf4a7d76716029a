#include "core/plan/plan.h"

namespace npu {

// Channels last for what convolutions and their like write, and for what follows them; everything that users
// or files hold stays row-major.
void Plan::assign_layouts() {
  const ProgramModel& m = model();
  std::vector<bool> decided(values.size(), false);
  for (const Op& op : m.main) {
    bool wanted = wants_channels_last(op);
    if (!wanted && info_of(op.kind).layout == LayoutRule::kFollows) {
      for (const Operand& in : op.inputs) {
        if (!in.present()) continue;
        const PlannedValue& source = values[static_cast<std::size_t>(in.value)];
        wanted |= source.layout == Layout::kChannelsLast && in.shape.size() == source.value.shape.size();
      }
    }
    for (const Operand& out : op.outputs) {
      if (!out.present() || decided[static_cast<std::size_t>(out.value)]) continue;
      PlannedValue& target = values[static_cast<std::size_t>(out.value)];
      decided[static_cast<std::size_t>(out.value)] = true;
      if (!wanted || target.space != Space::kArena || !spatial(target.value.shape)) continue;
      if (op.kind == OpKind::kCopy && !(op.inputs[0].shape.size() == target.value.shape.size())) continue;
      target.layout = Layout::kChannelsLast;
    }
  }
  // A view that is written must be expressible in the layout; a reader's need not be: it gets a copy.
  for (const Op& op : m.main) {
    for (const Operand& out : op.outputs) {
      if (!out.present()) continue;
      PlannedValue& target = values[static_cast<std::size_t>(out.value)];
      if (!physical_operand(out, target.value, target.layout)) target.layout = Layout::kRowMajor;
    }
  }
}

}  // namespace npu
