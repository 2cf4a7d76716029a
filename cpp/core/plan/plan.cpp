#include "core/plan/plan.h"

#include <algorithm>
#include <atomic>

#include "core/plan/fusion.h"
#include "core/plan/pieces.h"
#include "core/plan/plan_memory.h"

namespace npu {

namespace {

std::uint64_t next_plan_id() {
  static std::atomic<std::uint64_t> next{1};
  return next.fetch_add(1);
}

// Values start at multiples of 16 bytes on every device that cares.
int alignment_of(std::int64_t offset) {
  int alignment = 16;
  while (offset % alignment != 0) alignment /= 2;
  return alignment;
}

}  // namespace

Plan::Plan(Program program_, Device device_, int threads_, bool whole)
    : id(next_plan_id()),
      program(std::move(program_)),
      device(std::move(device_)),
      threads(threads_),
      pool(shared_pool(threads_)) {
  if (!whole && device.backend().has_caches()) pieces = in_pieces(program.model());
  assign_spaces();
  assign_layouts();
  for (const Op& op : model().prepare) {
    prepare.push_back(make_prepare_step(op));
    prepare_scratch_bytes = std::max(prepare_scratch_bytes, prepare.back().kernel->scratch_bytes());
    count_operands(prepare.back());
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

Step Plan::resolve_operands(const Op& op) const {
  Step step;
  step.op = std::make_unique<const Op>(op);
  const auto resolve = [&](const std::vector<Operand>& operands, std::vector<PlannedOperand>& planned,
                           std::vector<TensorDesc>& descs) {
    for (const Operand& operand : operands) {
      if (!operand.present()) {
        planned.push_back({});
        descs.push_back({});
        continue;
      }
      const PlannedValue& value = values[static_cast<std::size_t>(operand.value)];
      PhysicalOperand physical = *physical_operand(operand, value.value, value.layout);
      physical.desc.constant =
          value.space == Space::kWeight || value.space == Space::kConstant || value.space == Space::kPrepared;
      const std::int64_t offset = physical.offset * static_cast<std::int64_t>(size_of(value.value.dtype));
      physical.desc.alignment = alignment_of(offset);
      planned.push_back({operand.value, offset});
      descs.push_back(std::move(physical.desc));
    }
  };
  resolve(op.inputs, step.inputs, step.input_descs);
  resolve(op.outputs, step.outputs, step.output_descs);
  return step;
}

KernelRequest Plan::request_of(const Step& step) const {
  return {*step.op, step.input_descs, step.output_descs, threads, step.fused};
}

Step Plan::make_step(const Op& op) {
  Step step = resolve_operands(op);
  step.kernel = device.backend().make_kernel(request_of(step));
  count(step);
  return step;
}

// `prepare` runs once, so packing would not pay.
Step Plan::make_prepare_step(const Op& op) const {
  Step step = resolve_operands(op);
  for (TensorDesc& desc : step.input_descs) desc.constant = false;
  step.kernel = device.backend().host().make_kernel(request_of(step));
  return step;
}

void Plan::count(const Step& step) {
  scratch_bytes = std::max(scratch_bytes, step.kernel->scratch_bytes());
  count_operands(step);
}

void Plan::count_operands(const Step& step) {
  operands_at_most = std::max(operands_at_most, step.inputs.size() + step.outputs.size());
}

// A value of the plan's own, as a whole operand.
Operand Plan::add_value(const Operand& like, const std::string& name, Layout layout) {
  PlannedValue value;
  value.value.dtype = values[static_cast<std::size_t>(like.value)].value.dtype;
  value.value.shape = like.shape;
  value.value.name = name;
  value.layout = layout;
  Operand whole;
  whole.value = static_cast<int>(values.size());
  whole.shape = like.shape;
  whole.strides = dense_strides(like.shape, Layout::kRowMajor);
  values.push_back(std::move(value));
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

// Adds copies of operands that the device's kernel cannot read in their layout.
void Plan::copy_unreadable(Op& op) {
  for (std::size_t i = 0; i < op.inputs.size(); ++i) {
    Operand& in = op.inputs[i];
    if (!in.present()) continue;
    const PlannedValue& source = values[static_cast<std::size_t>(in.value)];
    auto physical = physical_operand(in, source.value, source.layout);
    if (!physical) {
      Operand whole;
      whole.value = in.value;
      whole.shape = source.value.shape;
      whole.strides = dense_strides(whole.shape, Layout::kRowMajor);
      in.value = relayout(whole, Layout::kRowMajor, op.name).value;
      physical = physical_operand(in, values.back().value, Layout::kRowMajor);
    }
    if (!device.backend().takes(op, physical->desc)) in = relayout(in, Layout::kRowMajor, op.name);
  }
}

// Gives an op that wants channels last a copy that lies so, unless its kernel reads the input as it is.
void Plan::gather_channels(Op& op) {
  if (!wants_channels_last(op) || !op.inputs[0].present()) return;
  const Step step = resolve_operands(op);
  const TensorDesc& x = step.input_descs[0];
  if (!spatial(x.shape) || x.shape[1] <= 1 || x.strides[1] == 1 || x.constant) return;
  if (device.backend().takes_planes(request_of(step))) return;
  op.inputs[0] = relayout(op.inputs[0], Layout::kChannelsLast, op.name);
}

// Gives results that the kernel cannot write in their layout, or not as fast, a temporary first; returns what
// is to be copied.
std::vector<std::pair<Operand, Operand>> Plan::divert_results(Op& op) {
  std::vector<std::pair<Operand, Operand>> copies;
  const auto divert = [&](Operand& out, Layout layout) {
    const std::string name = values[static_cast<std::size_t>(out.value)].value.name + " of " + op.name;
    copies.emplace_back(add_value(out, name, layout), out);
    out = copies.back().first;
  };
  for (Operand& out : op.outputs) {
    if (!out.present()) continue;
    const PlannedValue& target = values[static_cast<std::size_t>(out.value)];
    if (!device.backend().takes(op, physical_operand(out, target.value, target.layout)->desc))
      divert(out, Layout::kRowMajor);
  }
  if (!wants_channels_last(op) || !copies.empty()) return copies;
  const Step step = resolve_operands(op);
  const TensorDesc& y = step.output_descs[0];
  const bool planes = spatial(y.shape) && y.shape[1] > 1 && y.strides[1] != 1;
  if (planes && !device.backend().gives_planes(request_of(step)))
    divert(op.outputs[0], Layout::kChannelsLast);
  return copies;
}

void Plan::add_main_step(Op op) {
  copy_unreadable(op);
  const auto copies = divert_results(op);
  gather_channels(op);
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
  const auto fusible = fusible_ops(model());
  std::vector<bool> waits(ops.size(), false);
  for (const auto& before : fusible) {
    for (const std::size_t i : before) waits[i] = true;
  }
  for (std::size_t i = 0; i < ops.size(); ++i) {
    if (!waits[i]) add_with_fused(fusible[i], ops[i]);
  }
}

// Fuses as many of the ops before it as the device takes; the others become steps of their own.
void Plan::add_with_fused(std::span<const std::size_t> before, const Op& op) {
  const std::vector<Op>& ops = model().main;
  for (std::size_t taken = before.size(); taken > 0; --taken) {
    std::optional<Step> step = make_fused_step(before.first(taken), op);
    if (!step) continue;
    for (std::size_t k = before.size(); k > taken; --k) add_main_step(ops[before[k - 1]]);
    count(*step);
    steps.push_back(std::move(*step));
    return;
  }
  for (std::size_t k = before.size(); k > 0; --k) add_main_step(ops[before[k - 1]]);
  add_main_step(op);
}

// Fuses all of them, if the device can with operands in these layouts.
std::optional<Step> Plan::make_fused_step(std::span<const std::size_t> fused, const Op& op) const {
  Op all = op;
  for (const std::size_t i : fused) all = *joined(model().main[i], all);
  const auto lies = [&](const Operand& operand) {
    if (!operand.present()) return true;
    const PlannedValue& value = values[static_cast<std::size_t>(operand.value)];
    return physical_operand(operand, value.value, value.layout).has_value();
  };
  if (!std::all_of(all.inputs.begin(), all.inputs.end(), lies)) return std::nullopt;
  Step step = resolve_operands(all);
  for (const std::size_t i : fused) step.fused.push_back(&model().main[i]);
  step.kernel = device.backend().make_kernel(request_of(step));
  if (!step.kernel || step.kernel->fused_ops() != fused.size()) return std::nullopt;
  return step;
}

}  // namespace npu
