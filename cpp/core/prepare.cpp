#include "prepare.h"

#include <algorithm>
#include <set>

#include "npu/error.h"

namespace npu {

namespace {

// Finds each weight of a program: by its name, by a name it is tied to, and, if all of them then match, with
// the one prefix `model.` added or taken away.
std::vector<Buffer> find_weights(const ProgramModel& model, const Weights::State& state) {
  const std::map<std::string, Buffer>& tensors = state.tensors;
  const auto with_prefix = [&](const ProgramWeight& weight, int prefix) -> const Buffer* {
    const auto look = [&](const std::string& name) -> const Buffer* {
      std::string full = name;
      if (prefix > 0) full = "model." + name;
      if (prefix < 0) full = name.rfind("model.", 0) == 0 ? name.substr(6) : std::string();
      const auto found = tensors.find(full);
      return found == tensors.end() ? nullptr : &found->second;
    };
    if (const Buffer* found = look(weight.name)) return found;
    for (const auto& tie : weight.ties) {
      if (const Buffer* found = look(tie)) return found;
    }
    return nullptr;
  };
  std::vector<Buffer> found;
  for (const int prefix : {0, 1, -1}) {
    found.clear();
    for (const auto& weight : model.weights) {
      if (const Buffer* tensor = with_prefix(weight, prefix)) found.push_back(*tensor);
    }
    if (found.size() == model.weights.size()) return found;
  }
  std::string missing;
  int count = 0;
  for (const auto& weight : model.weights) {
    if (with_prefix(weight, 0) || ++count > 5) continue;
    missing += (missing.empty() ? "" : ", ") + quoted(weight.name);
    const auto other = state.unusable.find(weight.name);
    if (other != state.unusable.end()) missing += " (which the file has as " + quoted(other->second) + ")";
  }
  if (count > 5) missing += " and " + std::to_string(count - 5) + " more";
  std::string have;
  int shown = 0;
  for (const auto& [name, tensor] : tensors) {
    if (shown++ < 5) have += (have.empty() ? "" : ", ") + quoted(name);
  }
  if (tensors.size() > 5) have += ", ...";
  throw Error(ErrorKind::kMissing, {.area = "weights",
                                    .what = "missing weights: " + missing + " not found in state dict",
                                    .got = std::to_string(tensors.size()) + " tensors" +
                                           (have.empty() ? "" : ", available: " + have),
                                    .expected = "all " + std::to_string(model.weights.size()) +
                                                " weights of " + quoted(model.model_name)});
}

void check_weight(const ProgramWeight& weight, const Value& value, const Buffer& tensor) {
  if (tensor.dtype() == value.dtype && tensor.shape() == value.shape) return;
  throw Error(ErrorKind::kInvalidValue,
              {.area = "weights",
               .what = "weight " + quoted(weight.name) + " does not fit the program",
               .got = std::string(dtype_name(tensor.dtype())) + shape_text(tensor.shape()),
               .expected = std::string(dtype_name(value.dtype)) + shape_text(value.shape)});
}

class Preparation {
 public:
  Preparation(const Plan& plan, Weights::State& state, const Progress& progress)
      : plan_(plan), state_(state), progress_(progress) {
    result_->values.resize(plan.values.size());
    result_->packed.resize(plan.packed.size());
    producers_.resize(plan.values.size());
    uses_.resize(plan.values.size(), 0);
    done_.resize(plan.prepare.size(), false);
    for (std::size_t s = 0; s < plan.prepare.size(); ++s) {
      for (const auto& out : plan.prepare[s].outputs) {
        if (out.value >= 0) producers_[index(out)].push_back(s);
      }
    }
    bind_sources();
    count_uses();
    scratch_ = Buffer::allocate(DType::kUInt8, {static_cast<std::int64_t>(plan.scratch_bytes)});
  }

  std::shared_ptr<const PreparedWeights> run() {
    const auto total = static_cast<std::int64_t>(plan_.steps.size());
    for (std::size_t s = 0; s < plan_.steps.size(); ++s) {
      const Step& step = plan_.steps[s];
      const int packed_input = step.kernel->packed_input();
      for (std::size_t i = 0; i < step.inputs.size(); ++i) {
        if (step.inputs[i].value < 0 || !constant(step.inputs[i])) continue;
        evaluate(index(step.inputs[i]));
        if (static_cast<int>(i) == packed_input) pack(step);
      }
      if (progress_) progress_(static_cast<std::int64_t>(s) + 1, total);
    }
    // What only packing or preparing read is not kept.
    for (std::size_t v = 0; v < uses_.size(); ++v) {
      if (!read_raw_.count(v)) result_->values[v] = Buffer();
    }
    adopt();
    return result_;
  }

 private:
  static std::size_t index(const PlannedOperand& operand) { return static_cast<std::size_t>(operand.value); }
  bool constant(const PlannedOperand& operand) const {
    const Space space = plan_.values[index(operand)].space;
    return space == Space::kWeight || space == Space::kConstant || space == Space::kPrepared;
  }

  void bind_sources() {
    const ProgramModel& m = plan_.model();
    const auto tensors = find_weights(m, state_);
    for (std::size_t w = 0; w < m.weights.size(); ++w) {
      const auto v = static_cast<std::size_t>(m.weights[w].value);
      check_weight(m.weights[w], m.values[v], tensors[w]);
      result_->values[v] = tensors[w];
    }
    for (const auto& constant : m.constants) {
      const auto v = static_cast<std::size_t>(constant.value);
      void* const data = const_cast<std::byte*>(m.constant_data.data() + constant.offset);
      // Constants lie where the file put them; vectors and wider numbers want them aligned.
      if (reinterpret_cast<std::uintptr_t>(data) % size_of(m.values[v].dtype) == 0) {
        result_->values[v] = Buffer::wrap(data, m.values[v].dtype, m.values[v].shape,
                                          std::const_pointer_cast<void>(m.keep_alive));
      } else {
        result_->values[v] = Buffer::allocate(m.values[v].dtype, m.values[v].shape);
        std::copy_n(static_cast<const std::byte*>(data), result_->values[v].bytes(),
                    static_cast<std::byte*>(result_->values[v].data()));
      }
    }
  }

  // Weights and constants where the device reaches them; a tensor of a file once for all programs.
  void adopt() {
    const DeviceBackend& backend = plan_.device.backend();
    for (std::size_t v = 0; v < result_->values.size(); ++v) {
      Buffer& value = result_->values[v];
      if (!value || backend.reaches(value)) continue;
      if (plan_.values[v].space != Space::kWeight) {
        value = backend.adopt(value);
        continue;
      }
      Buffer& shared = state_.packed[{value.data(), "as it is, for " + backend.kind()}];
      if (!shared) shared = backend.adopt(value);
      value = shared;
    }
  }

  // Prepared values are freed after their last use.
  void count_uses() {
    for (const Step& step : plan_.prepare) {
      for (const auto& in : step.inputs) {
        if (in.value >= 0) ++uses_[index(in)];
      }
    }
    for (const Step& step : plan_.steps) {
      for (std::size_t i = 0; i < step.inputs.size(); ++i) {
        const auto& in = step.inputs[i];
        if (in.value < 0 || !constant(in)) continue;
        ++uses_[index(in)];
        if (step.kernel->packed_input() != static_cast<int>(i)) read_raw_.insert(index(in));
      }
    }
  }

  void release(std::size_t v) {
    if (--uses_[v] == 0 && plan_.values[v].space == Space::kPrepared) result_->values[v] = Buffer();
  }

  void evaluate(std::size_t v) {
    for (const std::size_t s : producers_[v]) {
      if (done_[s]) continue;
      done_[s] = true;
      const Step& step = plan_.prepare[s];
      for (const auto& in : step.inputs) {
        if (in.value >= 0) evaluate(index(in));
      }
      std::vector<const void*> inputs;
      std::vector<void*> outputs;
      for (const auto& in : step.inputs) inputs.push_back(in.value < 0 ? nullptr : pointer(in));
      for (const auto& out : step.outputs) {
        if (out.value >= 0 && !result_->values[index(out)]) {
          const Value& value = plan_.values[index(out)].value;
          result_->values[index(out)] = plan_.device.backend().allocate(value.dtype, value.shape);
        }
        outputs.push_back(out.value < 0 ? nullptr : pointer(out));
      }
      host_kernel(step).run(
          {inputs.data(), outputs.data(), static_cast<std::byte*>(scratch_.data()), nullptr}, *plan_.pool);
      for (const auto& in : step.inputs) {
        if (in.value >= 0) release(index(in));
      }
    }
  }

  void* pointer(const PlannedOperand& operand) const {
    return static_cast<std::byte*>(result_->values[index(operand)].data()) + operand.offset;
  }

  void pack(const Step& step) {
    const PlannedOperand& operand = step.inputs[static_cast<std::size_t>(step.kernel->packed_input())];
    const void* const raw = pointer(operand);
    Buffer& packed = result_->packed[static_cast<std::size_t>(step.packed)];
    const auto make = [&] {
      packed = plan_.device.backend().allocate(DType::kUInt8,
                                               {static_cast<std::int64_t>(step.kernel->packed_bytes())});
      step.kernel->pack(raw, static_cast<std::byte*>(packed.data()), *plan_.pool);
    };
    // A weight as it lies in the file is packed once for all programs that want it alike.
    if (plan_.values[index(operand)].space == Space::kWeight) {
      Buffer& shared = state_.packed[{raw, step.kernel->packing()}];
      if (!shared) {
        make();
        shared = packed;
      }
      packed = shared;
    } else {
      make();
    }
    release(index(operand));
  }

  const Plan& plan_;
  Weights::State& state_;
  const Progress& progress_;
  std::shared_ptr<PreparedWeights> result_ = std::make_shared<PreparedWeights>();
  std::vector<std::vector<std::size_t>> producers_;  // steps of prepare that write each value
  std::vector<bool> done_;
  std::vector<int> uses_;
  std::set<std::size_t> read_raw_;
  Buffer scratch_;
};

}  // namespace

void check_weights(const ProgramModel& program, const Weights& weights) {
  const std::lock_guard lock(weights.state().mutex);
  const auto tensors = find_weights(program, weights.state());
  for (std::size_t w = 0; w < tensors.size(); ++w) {
    check_weight(program.weights[w], program.values[static_cast<std::size_t>(program.weights[w].value)],
                 tensors[w]);
  }
}

std::shared_ptr<const PreparedWeights> prepared_for(const Plan& plan, const Weights& weights,
                                                    const Progress& progress) {
  Weights::State& state = weights.state();
  const std::lock_guard lock(state.mutex);
  auto& cached = state.prepared[plan.id];
  if (!cached) {
    try {
      cached = Preparation(plan, state, progress).run();
    } catch (...) {
      state.prepared.erase(plan.id);
      throw;
    }
  }
  return cached;
}

}  // namespace npu
