#include "gpu/plan/schedule.h"

#include <algorithm>

#include "core/plan/plan.h"
#include "gpu/plan/gpu_kernel.h"
#include "gpu/plan/hazards.h"
#include "metal/args.h"
#include "npu/error.h"

namespace npu::gpu {

namespace {

const GpuKernel& gpu_kernel(const Step& step) { return static_cast<const GpuKernel&>(*step.kernel); }

// Address spaces of hazards: the arena and scratch are one each; an output and the input that it may update
// in place are one; every other value is its own.
class Spaces {
 public:
  explicit Spaces(const Plan& plan) : plan_(plan), root_(plan.values.size()) {
    for (std::size_t v = 0; v < root_.size(); ++v) root_[v] = static_cast<int>(v);
    const ProgramModel& model = plan.model();
    for (const ProgramOutput& output : model.outputs) {
      if (output.alias < 0) continue;
      root_[static_cast<std::size_t>(output.value)] =
          model.inputs[static_cast<std::size_t>(output.alias)].value;
    }
  }

  Touched of(const BufferUse& use, const PlannedOperand* operand) const {
    Touched touched{0, use.offset + use.low, use.offset + use.high, use.reads, use.writes};
    if (operand == nullptr) {
      touched.space = scratch();
      return touched;
    }
    const PlannedValue& value = plan_.values[static_cast<std::size_t>(operand->value)];
    const bool in_arena = value.space == Space::kArena;
    touched.space = in_arena ? arena() : root_[static_cast<std::size_t>(operand->value)];
    const std::int64_t base = operand->offset + (in_arena ? value.offset : 0);
    touched.low += base;
    touched.high += base;
    return touched;
  }

 private:
  int arena() const { return static_cast<int>(root_.size()); }
  int scratch() const { return arena() + 1; }

  const Plan& plan_;
  std::vector<int> root_;
};

const PlannedOperand* operand_of(const Step& step, const BufferUse& use) {
  const auto i = static_cast<std::size_t>(use.index);
  if (use.from == From::kInput) return &step.inputs[i];
  return use.from == From::kOutput ? &step.outputs[i] : nullptr;
}

Binding bind(const Step& step, const BufferUse& use, const Resources& resources) {
  switch (use.from) {
    case From::kInput:
    case From::kOutput: {
      const PlannedOperand& operand = *operand_of(step, use);
      return {use.slot, resources.value(operand.value), operand.offset + use.offset};
    }
    case From::kScratch:
      return {use.slot, resources.scratch(), use.offset};
    case From::kPacked:
      return {use.slot, resources.packed(step.packed), use.offset};
    case From::kStatus:
      return {use.slot, resources.status(), 0};
    case From::kNothing:
      break;
  }
  return {use.slot, resources.nothing(), 0};
}

// Whether the launch copies an input to the output that is its update: in place there is nothing to do.
bool copies_state(const Plan& plan, const Step& step, const Dispatch& dispatch) {
  if (dispatch.same_output < 0) return false;
  const int from = step.inputs[static_cast<std::size_t>(dispatch.same_input)].value;
  const int to = step.outputs[static_cast<std::size_t>(dispatch.same_output)].value;
  const ProgramModel& model = plan.model();
  return std::any_of(model.outputs.begin(), model.outputs.end(), [&](const ProgramOutput& output) {
    return output.value == to && output.alias >= 0 &&
           model.inputs[static_cast<std::size_t>(output.alias)].value == from;
  });
}

std::string text_of(const Size& size) {
  return std::to_string(size[0]) + " x " + std::to_string(size[1]) + " x " + std::to_string(size[2]);
}

[[noreturn]] void too_large(ErrorKind kind, const Launch& launch, const std::string& what,
                            const std::string& got, const std::string& expected) {
  throw Error(kind, {.area = "gpu",
                     .what = what + " of the launch " + launch.label + " is too large",
                     .got = got,
                     .expected = "at most " + expected});
}

// Whether the device takes the grid only along x; throws where it does not take the launch at all.
bool as_line(const Launch& launch, const Caps& caps) {
  const Size &groups = launch.dispatch->groups, &threads = launch.dispatch->threads;
  bool longer = false;
  std::uint64_t group = 1, line = 1;
  for (std::size_t d = 0; d < 3; ++d) {
    longer = longer || groups[d] > caps.groups[d];
    group *= threads[d];
    line *= groups[d];
    if (threads[d] > caps.threads[d])
      too_large(ErrorKind::kInternal, launch, "a threadgroup", text_of(threads), text_of(caps.threads));
  }
  const auto most = static_cast<std::uint64_t>(caps.threads_per_group);
  if (group > most)
    too_large(ErrorKind::kInternal, launch, "a threadgroup", text_of(threads),
              std::to_string(most) + " threads");
  const int bytes = std::max({caps.threadgroup_bytes, caps.tensor_bytes, caps.stream_bytes});
  if (launch.dispatch->threadgroup_bytes > bytes) {
    too_large(ErrorKind::kInternal, launch, "the threadgroup memory",
              std::to_string(launch.dispatch->threadgroup_bytes) + " bytes", std::to_string(bytes));
  }
  if (longer && line > caps.groups[0]) {
    too_large(ErrorKind::kUnavailable, launch, "the grid", text_of(groups),
              std::to_string(caps.groups[0]) + " threadgroups");
  }
  return longer;
}

}  // namespace

Resources::Resources(const Plan& plan)
    : values_(static_cast<int>(plan.values.size())), packed_(static_cast<int>(plan.packed.size())) {}

Schedule::Schedule(const Plan& plan, const Caps& caps) : label(plan.model().model_name) {
  const Resources resources(plan);
  const Spaces spaces(plan);
  Hazards hazards;
  Dependencies dependencies;
  for (std::size_t s = 0; s < plan.steps.size(); ++s) {
    const Step& step = plan.steps[s];
    for (const Dispatch& dispatch : gpu_kernel(step).dispatches()) {
      Launch launch;
      launch.dispatch = &dispatch;
      launch.step = static_cast<int>(s);
      launch.label = dispatch.function + " of " + step.name();
      launch.pipeline = pipeline_of(dispatch, as_line(launch, caps));
      std::vector<Touched> touched;
      for (const BufferUse& use : dispatch.buffers) {
        launch.bindings.push_back(bind(step, use, resources));
        if (use.from == From::kStatus) {
          launch.bindings.back().offset = static_cast<std::int64_t>(reporting.size() * sizeof(Status));
          reporting.push_back(static_cast<int>(s));
        }
        const bool ordered = !use.constant && (use.from == From::kInput || use.from == From::kOutput ||
                                               use.from == From::kScratch);
        if (ordered && use.low < use.high) touched.push_back(spaces.of(use, operand_of(step, use)));
      }
      launch.copies_state = copies_state(plan, step, dispatch);
      dispatches += launch.copies_state ? 0 : 1;
      launch.barrier = hazards.next(touched);
      launch.after = dependencies.next(touched);
      barriers += launch.barrier ? 1 : 0;
      launches.push_back(std::move(launch));
    }
  }
}

int Schedule::pipeline_of(const Dispatch& dispatch, bool as_line) {
  const auto threads = dispatch.threads[0] * dispatch.threads[1] * dispatch.threads[2];
  const PipelineKey key{dispatch.library,   dispatch.prologue,         dispatch.function,
                        dispatch.constants, static_cast<int>(threads), as_line};
  auto pipeline = std::find(pipelines.begin(), pipelines.end(), key);
  if (pipeline == pipelines.end()) pipeline = pipelines.insert(pipelines.end(), key);
  return static_cast<int>(pipeline - pipelines.begin());
}

}  // namespace npu::gpu
