#include "core/plan/plan.h"

namespace npu {

std::string Plan::text() const {
  std::string text = "plan of " + model().model_name + " for " + device.name() + ", " +
                     std::to_string(threads) + (threads == 1 ? " thread" : " threads") + "\narena " +
                     std::to_string(arena_bytes) + " bytes (largest live set " +
                     std::to_string(largest_live_bytes) + "), scratch " + std::to_string(scratch_bytes) +
                     " bytes, " + std::to_string(steps.size()) + " kernels\n";
  const auto where = [&](const PlannedOperand& operand) -> std::string {
    if (operand.value < 0) return "-";
    const PlannedValue& v = values[static_cast<std::size_t>(operand.value)];
    static constexpr const char* names[] = {"@", "input:", "output:", "weight:", "constant:", "prepared:"};
    const std::string location =
        v.space == Space::kArena ? std::to_string(v.offset + operand.offset) : v.value.name;
    return names[static_cast<int>(v.space)] + location;
  };
  for (std::size_t s = 0; s < steps.size(); ++s) {
    const Step& step = steps[s];
    text += std::to_string(s) + "  " + step.kernel->name() + "  ";
    for (std::size_t i = 0; i < step.outputs.size(); ++i) {
      if (step.outputs[i].value < 0) continue;
      const PlannedValue& v = values[static_cast<std::size_t>(step.outputs[i].value)];
      text += std::string(dtype_name(v.value.dtype)) + shape_text(step.output_descs[i].shape) +
              (v.layout == Layout::kChannelsLast ? " channels-last " : " ") + where(step.outputs[i]) + " ";
    }
    text += "<-";
    for (std::size_t i = 0; i < step.inputs.size(); ++i) {
      const bool is_packed = step.packed >= 0 && step.kernel->packed_input() == static_cast<int>(i);
      text += (i ? ", " : " ") + where(step.inputs[i]) + (is_packed ? " (packed)" : "");
    }
    text += "  # " + step.name() + "\n";
  }
  if (device_plan) text += device_plan->text();
  return text;
}

}  // namespace npu
