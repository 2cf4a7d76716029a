#include "core/plan/plan.h"

#include <algorithm>
#include <atomic>

#include "core/plan/norm_fusion.h"
#include "core/plan/plan_memory.h"

namespace npu {

namespace {

std::uint64_t next_plan_id() {
  static std::atomic<std::uint64_t> next{1};
  return next.fetch_add(1);
}

bool spatial(const Shape& shape) { return shape.size() >= 3 && shape.size() <= 5; }

// Values start at multiples of 16 bytes on every device that cares.
int alignment_of(std::int64_t offset) {
  int alignment = 16;
  while (offset % alignment != 0) alignment /= 2;
  return alignment;
}

}  // namespace

Plan::Plan(Program program_, Device device_, int threads_)
    : id(next_plan_id()),
      program(std::move(program_)),
      device(std::move(device_)),
      threads(threads_),
      pool(shared_pool(threads_)) {
  assign_spaces();
  assign_layouts();
  for (const Op& op : model().prepare) {
    prepare.push_back(make_prepare_step(op));
    count(prepare.back());
  }
  add_main_steps();
  const ArenaSizes sizes = assign_memory(values, steps);
  arena_bytes = sizes.total;
  largest_live_bytes = sizes.largest_live;
  device_plan = device.backend().finish(*this);
}

void Plan::assign_spaces() {
  const ProgramModel& m = model();
  for (const Value& value : m.values) values.push_back({value});
  const auto mark = [&](int value, Space space, std::size_t index) {
    values[static_cast<std::size_t>(value)].space = space;
    values[static_cast<std::size_t>(value)].index = static_cast<int>(index);
  };
  for (const Op& op : m.prepare) {
    for (const Operand& out : op.outputs) {
      if (out.present()) mark(out.value, Space::kPrepared, 0);
    }
  }
  for (std::size_t i = 0; i < m.inputs.size(); ++i) mark(m.inputs[i].value, Space::kInput, i);
  for (std::size_t i = 0; i < m.weights.size(); ++i) mark(m.weights[i].value, Space::kWeight, i);
  for (std::size_t i = 0; i < m.constants.size(); ++i) mark(m.constants[i].value, Space::kConstant, i);
  for (std::size_t i = 0; i < m.outputs.size(); ++i) {
    mark(m.outputs[i].value, Space::kOutput, i);
    output_values.push_back(m.outputs[i].value);
  }
}

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
  // A part that is written must be expressible; readers get a copy where theirs is not.
  for (const Op& op : m.main) {
    for (const Operand& out : op.outputs) {
      if (!out.present()) continue;
      PlannedValue& target = values[static_cast<std::size_t>(out.value)];
      if (!place(out, target.value, target.layout)) target.layout = Layout::kRowMajor;
    }
  }
}

Step Plan::place_operands(const Op& op) const {
  Step step;
  step.op = std::make_unique<const Op>(op);
  const auto resolve = [&](const std::vector<Operand>& operands, std::vector<PlannedOperand>& placed_operands,
                           std::vector<TensorDesc>& descs) {
    for (const Operand& operand : operands) {
      if (!operand.present()) {
        placed_operands.push_back({});
        descs.push_back({});
        continue;
      }
      const PlannedValue& value = values[static_cast<std::size_t>(operand.value)];
      PlacedOperand placed = *place(operand, value.value, value.layout);
      placed.desc.constant =
          value.space == Space::kWeight || value.space == Space::kConstant || value.space == Space::kPrepared;
      const std::int64_t offset = placed.offset * static_cast<std::int64_t>(size_of(value.value.dtype));
      placed.desc.alignment = alignment_of(offset);
      placed_operands.push_back({operand.value, offset});
      descs.push_back(std::move(placed.desc));
    }
  };
  resolve(op.inputs, step.inputs, step.input_descs);
  resolve(op.outputs, step.outputs, step.output_descs);
  return step;
}

KernelRequest Plan::request_of(const Step& step) const {
  return {*step.op, step.input_descs, step.output_descs, threads,
          step.norm ? &std::get<NormAttrs>(step.norm->attrs) : nullptr};
}

Step Plan::make_step(const Op& op) {
  Step step = place_operands(op);
  step.kernel = device.backend().make_kernel(request_of(step));
  count(step);
  return step;
}

// It runs once: nothing is packed for it.
Step Plan::make_prepare_step(const Op& op) const {
  Step step = place_operands(op);
  for (TensorDesc& desc : step.input_descs) desc.constant = false;
  step.kernel = device.backend().host().make_kernel(request_of(step));
  return step;
}

void Plan::count(const Step& step) {
  scratch_bytes = std::max(scratch_bytes, step.kernel->scratch_bytes());
  operands_at_most = std::max(operands_at_most, step.inputs.size() + step.outputs.size());
}

// A value of the plan's own, as a whole operand.
Operand Plan::add_value(const Operand& like, const std::string& name, Layout layout) {
  PlannedValue made;
  made.value.dtype = values[static_cast<std::size_t>(like.value)].value.dtype;
  made.value.shape = like.shape;
  made.value.name = name;
  made.layout = layout;
  Operand whole;
  whole.value = static_cast<int>(values.size());
  whole.shape = like.shape;
  whole.strides = dense_strides(like.shape, Layout::kRowMajor);
  values.push_back(std::move(made));
  return whole;
}

void Plan::add_layout_copy(const Operand& from, const Operand& to, const std::string& name) {
  Op op;
  op.kind = OpKind::kCopy;
  op.name = "layout of " + name;
  op.attrs = CopyAttrs{};
  op.inputs = {from};
  op.outputs = {to};
  steps.push_back(make_step(op));
  steps.back().made_for_layout = true;
}

// A copy of `operand` in another layout, made by a step of its own; returns the new value.
Operand Plan::relayout(const Operand& operand, Layout layout, const std::string& reader) {
  const std::string& name = values[static_cast<std::size_t>(operand.value)].value.name;
  const Operand copy = add_value(operand, name + " for " + reader, layout);
  add_layout_copy(operand, copy, reader);
  return copy;
}

// Copies of what the device's kernel does not read as it lies.
void Plan::copy_unreadable(Op& op) {
  for (std::size_t i = 0; i < op.inputs.size(); ++i) {
    Operand& in = op.inputs[i];
    if (!in.present()) continue;
    const PlannedValue& source = values[static_cast<std::size_t>(in.value)];
    auto placed = place(in, source.value, source.layout);
    const bool moved = !placed;
    if (moved) {
      Operand whole;
      whole.value = in.value;
      whole.shape = source.value.shape;
      whole.strides = dense_strides(whole.shape, Layout::kRowMajor);
      in.value = relayout(whole, Layout::kRowMajor, op.name).value;
      placed = place(in, values.back().value, Layout::kRowMajor);
    }
    const bool readable = device.backend().takes(op, placed->desc);
    const bool scattered = !moved && i == 0 && wants_channels_last(op) && spatial(in.shape) &&
                           in.shape[1] > 1 && placed->desc.strides[1] != 1 && !placed->desc.constant;
    if (readable && !scattered) continue;
    in = relayout(in, readable ? Layout::kChannelsLast : Layout::kRowMajor, op.name);
  }
}

void Plan::add_main_step(Op op) {
  copy_unreadable(op);
  // What the kernel does not write as it lies goes to a value of its own first.
  std::vector<std::pair<Operand, Operand>> copies;
  for (Operand& out : op.outputs) {
    if (!out.present()) continue;
    const PlannedValue& target = values[static_cast<std::size_t>(out.value)];
    if (device.backend().takes(op, place(out, target.value, target.layout)->desc)) continue;
    const std::string name = target.value.name + " of " + op.name;
    copies.emplace_back(add_value(out, name, Layout::kRowMajor), out);
    out = copies.back().first;
  }
  Step step = make_step(op);
  if (step.kernel->packed_input() >= 0) {
    step.packed = static_cast<int>(packed.size());
    packed.push_back(static_cast<int>(steps.size()));
  }
  steps.push_back(std::move(step));
  for (const auto& [from, to] : copies) add_layout_copy(from, to, op.name);
}

void Plan::add_main_steps() {
  const std::vector<Op>& ops = model().main;
  const std::vector<int> norms = norms_of_products(model());
  std::vector<bool> waits(ops.size(), false);  // norms, for their products
  for (const int norm : norms) {
    if (norm >= 0) waits[static_cast<std::size_t>(norm)] = true;
  }
  for (std::size_t i = 0; i < ops.size(); ++i) {
    if (waits[i]) continue;
    if (norms[i] >= 0) {
      const Op& norm = ops[static_cast<std::size_t>(norms[i])];
      if (add_fused_step(norm, ops[i])) continue;
      add_main_step(norm);
    }
    add_main_step(ops[i]);
  }
}

// Both as one, if the device does that where the operands lie as they do.
bool Plan::add_fused_step(const Op& norm, const Op& product) {
  const Op op = with_norm(norm, product);
  const auto lies = [&](const Operand& operand) {
    if (!operand.present()) return true;
    const PlannedValue& value = values[static_cast<std::size_t>(operand.value)];
    return place(operand, value.value, value.layout).has_value();
  };
  if (!std::all_of(op.inputs.begin(), op.inputs.end(), lies)) return false;
  Step step = place_operands(op);
  step.norm = std::make_unique<const Op>(norm);
  step.kernel = device.backend().make_fused(request_of(step));
  if (!step.kernel) return false;
  count(step);
  steps.push_back(std::move(step));
  return true;
}

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
    const std::string place =
        v.space == Space::kArena ? std::to_string(v.offset + operand.offset) : v.value.name;
    return names[static_cast<int>(v.space)] + place;
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
