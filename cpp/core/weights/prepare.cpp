#include "core/weights/prepare.h"

#include <algorithm>
#include <optional>
#include <set>

#include "npu/error.h"

namespace npu {

namespace {

// As extract_ir has it in torch_ir/buffers.py.
constexpr const char* kMissingBuffer =
    "for a buffer that no checkpoint holds load_weights(model, ...) with a real model, or extract again, "
    "from a model "
    "built under torch_ir.meta_weights() or with extract_ir(..., buffers=model)";

// As modules of PyTorch name theirs, such as "fc.weight" and "weight_ih_l0": programs do not say which is
// which.
bool is_named_as_parameter(const std::string& name) {
  const std::string last = name.substr(name.rfind('.') + 1);
  return last.find("weight") != std::string::npos || last.find("bias") != std::string::npos;
}

// Finds each weight of a program: by its name, by a name it is tied to, and, if all of them then match, with
// the one prefix `model.` added or taken away.
std::vector<WeightTensor> find_weights(const ProgramModel& model, const Weights::State& state) {
  const std::map<std::string, WeightTensor>& tensors = state.tensors;
  const auto with_prefix = [&](const ProgramWeight& weight, int prefix) -> const WeightTensor* {
    const auto look = [&](const std::string& name) -> const WeightTensor* {
      std::string full = name;
      if (prefix > 0) full = "model." + name;
      if (prefix < 0) full = name.rfind("model.", 0) == 0 ? name.substr(6) : std::string();
      const auto match = tensors.find(full);
      return match == tensors.end() ? nullptr : &match->second;
    };
    if (const WeightTensor* tensor = look(weight.name)) return tensor;
    for (const auto& tie : weight.ties) {
      if (const WeightTensor* tensor = look(tie)) return tensor;
    }
    return nullptr;
  };
  std::vector<WeightTensor> matches;
  for (const int prefix : {0, 1, -1}) {
    matches.clear();
    for (const auto& weight : model.weights) {
      if (const WeightTensor* tensor = with_prefix(weight, prefix)) matches.push_back(*tensor);
    }
    if (matches.size() == model.weights.size()) return matches;
  }
  std::string missing;
  int count = 0;
  bool is_other_dtype = false, may_be_buffers = true;
  for (const auto& weight : model.weights) {
    if (with_prefix(weight, 0)) continue;
    may_be_buffers = may_be_buffers && !is_named_as_parameter(weight.name);
    if (++count > 5) continue;
    missing += (missing.empty() ? "" : ", ") + quoted(weight.name);
    const auto other = state.unusable.find(weight.name);
    if (other == state.unusable.end()) continue;
    is_other_dtype = true;
    missing += " (which the file has as " + quoted(other->second) + ")";
  }
  if (count > 5) missing += " and " + std::to_string(count - 5) + " more";
  std::string have;
  int listed = 0;
  for (const auto& [name, tensor] : tensors) {
    if (listed++ < 5) have += (have.empty() ? "" : ", ") + quoted(name);
  }
  if (tensors.size() > 5) have += ", ...";
  const char* advice = "";
  if (is_other_dtype) {
    advice = "model.float() before the file is saved";
  } else if (tensors.empty()) {
    advice = "load_weights(...) of a checkpoint or of the model";
  } else if (may_be_buffers) {
    advice = kMissingBuffer;
  }
  throw Error(
      ErrorKind::kMissing,
      {.area = "weights",
       .what = "missing weights: " + missing + " not found in state dict",
       .got = std::to_string(tensors.size()) + " tensors" + (have.empty() ? "" : ", available: " + have),
       .expected = "all " + std::to_string(model.weights.size()) + " weights of " + quoted(model.model_name),
       .action = advice});
}

void check_weight(const ProgramWeight& weight, const Value& value, const WeightTensor& tensor) {
  if (tensor.dtype() == value.dtype && tensor.shape() == value.shape) return;
  throw Error(ErrorKind::kInvalidValue,
              {.area = "weights",
               .what = "weight " + quoted(weight.name) + " does not fit the program",
               .got = std::string(dtype_name(tensor.dtype())) + shape_text(tensor.shape()),
               .expected = std::string(dtype_name(value.dtype)) + shape_text(value.shape)});
}

std::vector<WeightTensor> bind_sources(const Plan& plan, const Weights::State& state) {
  const ProgramModel& m = plan.model();
  std::vector<WeightTensor> sources(plan.values.size());
  const auto tensors = find_weights(m, state);
  for (std::size_t w = 0; w < m.weights.size(); ++w) {
    const auto v = static_cast<std::size_t>(m.weights[w].value);
    check_weight(m.weights[w], m.values[v], tensors[w]);
    sources[v] = tensors[w];
  }
  for (const auto& constant : m.constants)
    sources[static_cast<std::size_t>(constant.value)] = bind_constant(m, constant);
  return sources;
}

// The form of a weight that is not prepared.
constexpr const char* kAsItIs = "as it is";

class Preparation {
 public:
  Preparation(const Plan& plan, Weights::State& state, const Progress& progress)
      : plan_(plan),
        backend_(plan.device.backend()),
        state_(state),
        progress_(progress),
        sources_(bind_sources(plan, state)),
        signatures_(plan, sources_) {
    for (const WeightTensor& source : sources_) result_->values.push_back(source.buffer());
    result_->packed.resize(plan.packed.size());
    host_.resize(plan.values.size());
    producers_.resize(plan.values.size());
    uses_.resize(plan.values.size(), 0);
    looked_up_.resize(plan.values.size(), false);
    done_.resize(plan.prepare.size(), false);
    for (std::size_t s = 0; s < plan.prepare.size(); ++s) {
      for (const auto& out : plan.prepare[s].outputs) {
        if (out.value >= 0) producers_[index(out)].push_back(s);
      }
    }
    count_uses();
    for (const std::size_t v : read_raw_) raw_.insert(sources_[v].identity());
    scratch_ = Buffer::allocate(DType::kUInt8, {static_cast<std::int64_t>(plan.prepare_scratch_bytes)});
  }

  std::shared_ptr<const PreparedWeights> run() {
    const auto total = static_cast<std::int64_t>(plan_.steps.size());
    for (std::size_t s = 0; s < plan_.steps.size(); ++s) {
      const Step& step = plan_.steps[s];
      const int packed_input = step.kernel->packed_input();
      for (std::size_t i = 0; i < step.inputs.size(); ++i) {
        if (step.inputs[i].value < 0 || !constant(step.inputs[i])) continue;
        if (static_cast<int>(i) == packed_input) {
          pack(step);
        } else {
          evaluate(index(step.inputs[i]));
        }
      }
      if (progress_) progress_(static_cast<std::int64_t>(s) + 1, total);
    }
    // What only packing or preparing read is not kept.
    for (std::size_t v = 0; v < uses_.size(); ++v) {
      if (!read_raw_.count(v)) result_->values[v] = Buffer();
    }
    adopt();
    settle_sources();
    return result_;
  }

  // What a run that failed has made, which may be what filled a device's memory.
  void forget() {
    for (const Derived& key : added_) state_.derived.erase(key);
  }

 private:
  using Derived = decltype(Weights::State::derived)::key_type;
  static std::size_t index(const PlannedOperand& operand) { return static_cast<std::size_t>(operand.value); }
  Space space(std::size_t v) const { return plan_.values[v].space; }
  bool constant(const PlannedOperand& operand) const {
    const Space where = space(index(operand));
    return where == Space::kWeight || where == Space::kConstant || where == Space::kPrepared;
  }

  // From the cache if another plan has computed it, else from `make`.
  template <class Make>
  Buffer shared(std::size_t v, const std::string& form, Make&& make) {
    Derived key{signatures_.of(v), backend_.kind(), form};
    Buffer& slot = state_.derived[key];
    if (slot && backend_.reaches(slot)) return slot;
    added_.push_back(std::move(key));
    return slot = make();
  }

  // Memory that the host's kernels write: the device's own where they reach it.
  Buffer allocate(DType dtype, Shape shape) const {
    return backend_.unified() ? backend_.allocate(dtype, std::move(shape))
                              : Buffer::allocate(dtype, std::move(shape));
  }

  // Everything where the device reaches it, once for all programs.
  void adopt() {
    for (std::size_t v = 0; v < result_->values.size(); ++v) {
      Buffer& value = result_->values[v];
      if (!value || (backend_.reaches(value) && !sources_[v].is_made())) continue;
      const auto copy = [&] { return backend_.reaches(value) ? value : backend_.adopt(value); };
      if (space(v) != Space::kPrepared) {
        value = shared(v, kAsItIs, copy);
      } else {
        value = made_alone(v) ? shared(v, "prepared", copy) : copy();
      }
    }
  }

  // The pages of a file that were read to prepare something, and that no plan reads where they lie.
  void leave_source(std::size_t v) const {
    const Buffer& source = sources_[v].buffer();
    if (space(v) != Space::kWeight || !source || source.memory() == nullptr) return;
    if (!raw_.count(source.data()) && !state_.read_raw.count(source.data()))
      source.memory()->unused(source.data(), source.bytes());
  }

  // A tensor that is made when it is read, unless another plan has it.
  void make_source(std::size_t v) {
    if (!sources_[v].is_made() || result_->values[v]) return;
    const auto at = state_.derived.find({signatures_.of(v), backend_.kind(), kAsItIs});
    const bool is_there = at != state_.derived.end() && at->second && backend_.reaches(at->second);
    result_->values[v] = is_there ? at->second : sources_[v].get();
  }

  // Of what the device reads, the file's own pages stay, and those of which it has copies go.
  void settle_sources() {
    for (const std::size_t v : read_raw_) {
      if (result_->values[v].data() == sources_[v].buffer().data())
        state_.read_raw.insert(sources_[v].identity());
    }
    raw_.clear();
    for (const std::size_t v : read_raw_) leave_source(v);
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
    if (--uses_[v] > 0) return;
    leave_source(v);
    host_[v] = Buffer();
    if (space(v) != Space::kPrepared && !sources_[v].is_made()) return;
    result_->values[v] = Buffer();
    if (space(v) == Space::kPrepared) skip_producers(v);
  }

  // Steps that compute only `v` need not run any more.
  void skip_producers(std::size_t v) {
    if (!made_alone(v)) return;
    for (const std::size_t s : producers_[v]) {
      if (done_[s]) continue;
      done_[s] = true;
      release_inputs(plan_.prepare[s]);
    }
  }

  void release_inputs(const Step& step) {
    for (const auto& in : step.inputs) {
      if (in.value >= 0) release(index(in));
    }
  }

  bool made_alone(std::size_t v) const {
    return std::all_of(producers_[v].begin(), producers_[v].end(), [&](std::size_t s) {
      const auto& outputs = plan_.prepare[s].outputs;
      return std::all_of(outputs.begin(), outputs.end(),
                         [&](const auto& out) { return out.value < 0 || index(out) == v; });
    });
  }

  // Takes it from another plan that has made it; false if there is none.
  bool take_prepared(std::size_t v) {
    if (looked_up_[v] || space(v) != Space::kPrepared || !read_raw_.count(v) || !made_alone(v)) return false;
    looked_up_[v] = true;
    const auto at = state_.derived.find({signatures_.of(v), backend_.kind(), "prepared"});
    if (at == state_.derived.end() || !backend_.reaches(at->second)) return false;
    result_->values[v] = at->second;
    skip_producers(v);
    return true;
  }

  void evaluate(std::size_t v) {
    make_source(v);
    if (take_prepared(v)) return;
    bool computed = false;
    for (const std::size_t s : producers_[v]) {
      if (done_[s]) continue;
      computed = done_[s] = true;
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
          result_->values[index(out)] = allocate(value.dtype, value.shape);
        }
        outputs.push_back(out.value < 0 ? nullptr : pointer(out));
      }
      host_kernel(step).run(
          {inputs.data(), outputs.data(), static_cast<std::byte*>(scratch_.data()), nullptr}, *plan_.pool);
      release_inputs(step);
    }
    if (!computed || !read_raw_.count(v) || !made_alone(v)) return;
    added_.emplace_back(signatures_.of(v), backend_.kind(), "prepared");
    state_.derived[added_.back()] = result_->values[v];
  }

  void* pointer(const PlannedOperand& operand) {
    const Buffer& value = result_->values[index(operand)];
    Buffer& host = host_[index(operand)];
    if (!value.on_host() && !host) host = value.to_host();
    return static_cast<std::byte*>((host ? host : value).data()) + operand.offset;
  }

  // Once for all programs that need the same packing.
  void pack(const Step& step) {
    const PlannedOperand& operand = step.inputs[static_cast<std::size_t>(step.kernel->packed_input())];
    const std::string form = step.kernel->packing() + " from " + std::to_string(operand.offset);
    result_->packed[static_cast<std::size_t>(step.packed)] = shared(index(operand), form, [&] {
      evaluate(index(operand));
      Buffer packed = allocate(DType::kUInt8, {static_cast<std::int64_t>(step.kernel->packed_bytes())});
      step.kernel->pack(pointer(operand), static_cast<std::byte*>(packed.data()), *plan_.pool);
      return backend_.reaches(packed) ? packed : backend_.adopt(packed);
    });
    release(index(operand));
  }

  const Plan& plan_;
  const DeviceBackend& backend_;
  Weights::State& state_;
  const Progress& progress_;
  std::vector<WeightTensor> sources_;  // weights and constants by value
  std::vector<Buffer> host_;           // copies for the host of values that it does not reach
  Signatures signatures_;
  std::shared_ptr<PreparedWeights> result_ = std::make_shared<PreparedWeights>();
  std::vector<std::vector<std::size_t>> producers_;  // steps of prepare that write each value
  std::vector<bool> done_, looked_up_;
  std::vector<int> uses_;
  std::vector<Derived> added_;
  std::set<std::size_t> read_raw_;
  std::set<const void*> raw_;  // where those lie, as long as the device may have no copy
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
    plan.users.add(state.weak_from_this());
    std::optional<Preparation> preparation;
    try {
      cached = preparation.emplace(plan, state, progress).run();
    } catch (...) {
      if (preparation) preparation->forget();
      state.prepared.erase(plan.id);
      throw;
    }
  }
  return cached;
}

}  // namespace npu
