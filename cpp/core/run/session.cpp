#include "core/run/session.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <utility>

#include "core/run/checked_runner.h"
#include "npu/error.h"

namespace npu {

namespace {

constexpr std::size_t kPooledOutputs = 8;  // more than a caller keeps in flight

const std::byte* begin_of(const Buffer& buffer) { return static_cast<const std::byte*>(buffer.data()); }

bool overlap(const Buffer& a, const Buffer& b) {
  return begin_of(a) < begin_of(b) + b.bytes() && begin_of(b) < begin_of(a) + a.bytes();
}

[[noreturn]] void wrong_input(const ProgramModel& model, std::size_t i, const std::string& got) {
  const Value& value = model.values[static_cast<std::size_t>(model.inputs[i].value)];
  throw Error(ErrorKind::kInvalidValue,
              {.area = "run",
               .what = "input " + quoted(model.inputs[i].name) + " does not fit the program",
               .got = got,
               .expected = std::string(dtype_name(value.dtype)) + shape_text(value.shape)});
}

}  // namespace

Session::Impl::Impl(std::shared_ptr<const Plan> plan_)
    : plan(std::move(plan_)), backend_(plan->device.backend()), runner_(backend_.make_runner(*plan)) {
  if (plans_are_checked()) runner_ = make_checked_runner(*plan, std::move(runner_));
  scratch_ = backend_.allocate(DType::kUInt8, {static_cast<std::int64_t>(plan->scratch_bytes)});
  addresses_.resize(plan->values.size());
  packed_.resize(plan->packed.size());
  bind_arena();
  states.resize(plan->model().inputs.size());
  copies_.resize(plan->model().inputs.size());
  taken_.resize(plan->model().inputs.size());
  pool_.resize(plan->model().outputs.size());
}

void Session::Impl::bind_arena() {
  const bool separates = backend_.separates();
  if (separates) separate_.resize(addresses_.size());
  if (!separates) arena_ = backend_.allocate(DType::kUInt8, {plan->arena_bytes});
  for (std::size_t v = 0; v < addresses_.size(); ++v) {
    const PlannedValue& value = plan->values[v];
    if (value.space != Space::kArena) continue;
    if (separates) {
      Buffer& own = separate_[value.memory_of < 0 ? v : static_cast<std::size_t>(value.memory_of)];
      if (!own) own = backend_.allocate(value.value.dtype, value.value.shape);
      addresses_[v] = address_of(own);
    } else {
      addresses_[v] = address_of(arena_);
      addresses_[v].data += value.offset;
    }
  }
}

void Session::Impl::use_weights(const Weights& weights) {
  Weights::State& state = weights.state();
  const std::uint64_t version = state.version.load(std::memory_order_acquire);
  if (version_ == version) return;
  prepared_ = prepared_for(*plan, weights, {});
  version_ = version;
  for (std::size_t v = 0; v < addresses_.size(); ++v) {
    const Space space = plan->values[v].space;
    if (space != Space::kWeight && space != Space::kConstant && space != Space::kPrepared) continue;
    addresses_[v] = address_of(prepared_->values[v]);
  }
  for (std::size_t p = 0; p < packed_.size(); ++p) packed_[p] = address_of(prepared_->packed[p]);
  find_weight_memory(weights);
}

void Session::Impl::find_weight_memory(const Weights& weights) {
  auto& spans = weight_memory_;
  spans.clear();
  for (const auto& [name, tensor] : given_tensors(weights)) {
    if (tensor.bytes() == 0) continue;
    spans.emplace_back(begin_of(tensor), begin_of(tensor) + tensor.bytes());
  }
  std::sort(spans.begin(), spans.end());
  std::size_t kept = 0;
  for (const auto& span : spans) {  // tied weights share memory
    if (kept > 0 && span.first < spans[kept - 1].second) {
      spans[kept - 1].second = std::max(spans[kept - 1].second, span.second);
    } else {
      spans[kept++] = span;
    }
  }
  spans.resize(kept);
}

// Starts from the weight of that name (a buffer of the model), else from zero.
void Session::Impl::begin_state(std::size_t i, const Weights& weights) {
  const ProgramModel& model = plan->model();
  const Value& value = model.values[static_cast<std::size_t>(model.inputs[i].value)];
  const Buffer initial = weights.get(model.inputs[i].name);
  if (initial && (initial.dtype() != value.dtype || initial.shape() != value.shape)) {
    wrong_input(model, i, std::string(dtype_name(initial.dtype())) + shape_text(initial.shape()));
  }
  Buffer state = backend_.allocate(value.dtype, value.shape, !initial);
  if (initial) state.copy_from(initial);
  states[i] = std::move(state);
}

// A copy that the device can reach. With `keep`, the next run gets a new one.
Buffer Session::Impl::reachable_copy(std::size_t i, const Buffer& input, bool keep) {
  Buffer& copy = copies_[i];
  if (!copy) copy = backend_.allocate(input.dtype(), input.shape());
  copy.copy_from(input);
  return keep ? std::exchange(copy, Buffer()) : copy;
}

void Session::Impl::bind_input(std::size_t i, const Buffer& input, bool donated, const Weights& weights) {
  const ProgramModel& model = plan->model();
  const ProgramInput& spec = model.inputs[i];
  const Value& value = model.values[static_cast<std::size_t>(spec.value)];
  if (!input) {
    if (spec.state) {
      // The session's own; always updated in place.
      if (!states[i]) begin_state(i, weights);
      taken_[i] = states[i];
      addresses_[static_cast<std::size_t>(spec.value)] = address_of(states[i]);
      return;
    }
    if (spec.required) wrong_input(model, i, "nothing");
    return;
  }
  if (input.dtype() != value.dtype || input.shape() != value.shape) {
    wrong_input(model, i, std::string(dtype_name(input.dtype())) + shape_text(input.shape()));
  }
  Buffer copy;
  if (!backend_.reaches(input)) copy = reachable_copy(i, input, donated);
  const Buffer& bound = copy ? copy : input;
  if (donated) taken_[i] = bound;
  addresses_[static_cast<std::size_t>(spec.value)] = address_of(bound);
}

// Memory that is updated in place must not also be another input: the result would depend on kernel order.
void Session::Impl::refuse_shared(std::span<const Buffer> inputs) const {
  for (std::size_t i = 0; i < taken_.size(); ++i) {
    if (!taken_[i]) continue;
    for (std::size_t j = 0; j < inputs.size(); ++j) {
      const Buffer& other = taken_[j] ? taken_[j] : inputs[j];
      if (i == j || !other || !overlap(taken_[i], other)) continue;
      throw Error(ErrorKind::kInvalidValue,
                  {.area = "run",
                   .what = "input " + quoted(plan->model().inputs[i].name) +
                           (inputs[i] ? " is donated" : " is held by the session") +
                           ", but its memory is also that of " + quoted(plan->model().inputs[j].name),
                   .action = "copying one of them first"});
    }
  }
}

// Nor may it be a weight, which later runs read again.
void Session::Impl::refuse_weights(std::span<const Buffer> inputs, const Weights& weights) const {
  for (std::size_t i = 0; i < taken_.size(); ++i) {
    if (!taken_[i] || !inputs[i] || taken_[i].bytes() == 0) continue;
    const std::byte* const begin = begin_of(taken_[i]);
    auto after = std::lower_bound(weight_memory_.begin(), weight_memory_.end(), begin + taken_[i].bytes(),
                                  [](const auto& span, const std::byte* end) { return span.first < end; });
    if (after == weight_memory_.begin() || std::prev(after)->second <= begin) continue;
    std::string name;
    for (const auto& [one, tensor] : given_tensors(weights)) {
      if (name.empty() && overlap(taken_[i], tensor)) name = one;
    }
    throw Error(ErrorKind::kInvalidValue, {.area = "run",
                                           .what = "input " + quoted(plan->model().inputs[i].name) +
                                                   " is donated, but its memory is also that of the weight " +
                                                   quoted(name) + ", which the run would overwrite",
                                           .action = "copying one of them first"});
  }
}

Buffer Session::Impl::recycled(std::size_t output, const Value& value) {
  auto& pool = pool_[output];
  for (Buffer& buffer : pool) {
    if (buffer.users() == 1) return buffer;
  }
  Buffer fresh = backend_.allocate(value.dtype, value.shape);
  if (pool.size() == kPooledOutputs) pool.erase(pool.begin());  // who has it keeps it
  pool.push_back(fresh);
  return fresh;
}

void Session::Impl::bind_output(std::size_t i, std::span<Buffer> outputs) {
  const ProgramModel& model = plan->model();
  const ProgramOutput& spec = model.outputs[i];
  Buffer taken;
  if (spec.alias >= 0) taken = taken_[static_cast<std::size_t>(spec.alias)];
  outputs[i] = taken ? taken : recycled(i, model.values[static_cast<std::size_t>(spec.value)]);
  addresses_[static_cast<std::size_t>(spec.value)] = address_of(outputs[i]);
}

// For one call, of one thread.
class Session::Impl::Turn {
 public:
  explicit Turn(std::atomic_flag& running) : running_(running) {
    if (running_.test_and_set(std::memory_order_acquire)) {
      throw Error(ErrorKind::kInvalidValue, {.area = "session",
                                             .what = "the session is running in another thread",
                                             .action = "a session for each thread, or Executor.run"});
    }
  }
  ~Turn() { running_.clear(std::memory_order_release); }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  std::atomic_flag& running_;
};

void Session::Impl::run(std::span<const Buffer> inputs, const Weights& weights, std::span<const bool> donate,
                        std::span<Buffer> outputs, bool profile) {
  const Turn turn(running_);
  run_alone(inputs, weights, donate, outputs, profile);
}

void Session::Impl::settle() {
  const Turn turn(running_);
  runner_->settle();
}

void Session::Impl::run_alone(std::span<const Buffer> inputs, const Weights& weights,
                              std::span<const bool> donate, std::span<Buffer> outputs, bool profile) {
  const ProgramModel& model = plan->model();
  if (inputs.size() != model.inputs.size() || outputs.size() != model.outputs.size()) {
    throw Error(
        ErrorKind::kInvalidValue,
        {.area = "run",
         .what = "the number of inputs or outputs is wrong",
         .got = std::to_string(inputs.size()) + " and " + std::to_string(outputs.size()),
         .expected = std::to_string(model.inputs.size()) + " and " + std::to_string(model.outputs.size())});
  }
  for (Buffer& taken : taken_) taken = Buffer();  // of a run that failed
  use_weights(weights);
  for (std::size_t i = 0; i < inputs.size(); ++i)
    bind_input(i, inputs[i], i < donate.size() && donate[i], weights);
  refuse_shared(inputs);
  refuse_weights(inputs, weights);
  for (std::size_t i = 0; i < outputs.size(); ++i) bind_output(i, outputs);
  run_steps(profile);
  for (Buffer& taken : taken_) {
    if (taken) taken = Buffer();
  }
}

void Session::Impl::describe_times() {
  times.resize(plan->steps.size());
  for (std::size_t s = 0; s < times.size(); ++s) {
    const Step& step = plan->steps[s];
    KernelTime& time = times[s];
    time.op = step.name();
    time.kernel = step.kernel->name();
    time.flops = step.kernel->flops();
    time.bytes = step.kernel->bytes();
    if (time.bytes > 0) continue;
    const auto add = [&](const std::vector<TensorDesc>& descs) {
      for (const auto& d : descs) {
        if (d.present())
          time.bytes += static_cast<double>(d.elements()) * static_cast<double>(size_of(d.dtype));
      }
    };
    add(step.input_descs);
    add(step.output_descs);
  }
}

void Session::Impl::run_steps(bool profile) {
  const RunAddresses addresses{addresses_, packed_, address_of(scratch_)};
  if (!profile) return runner_->run(addresses, {});
  if (times.empty()) describe_times();
  step_times_.resize(times.size());
  runner_->run(addresses, step_times_);
  for (std::size_t s = 0; s < times.size(); ++s) {
    ++times[s].calls;
    times[s].nanoseconds += step_times_[s].nanoseconds;
    times[s].last_start = step_times_[s].start;
    times[s].last_nanoseconds = step_times_[s].nanoseconds;
  }
}

void Session::run(std::span<const Buffer> inputs, const Weights& weights, std::span<const bool> donate,
                  std::span<Buffer> outputs, bool profile) {
  impl_->run(inputs, weights, donate, outputs, profile);
}

std::vector<Buffer> Session::run(std::span<const Buffer> inputs, const Weights& weights) {
  std::vector<Buffer> outputs(impl_->plan->model().outputs.size());
  impl_->run(inputs, weights, {}, outputs, false);
  return outputs;
}

void Session::settle() { impl_->settle(); }
const std::vector<KernelTime>& Session::times() const { return impl_->times; }
void Session::clear_times() { impl_->times.clear(); }

namespace {
void check_state(const ProgramModel& model, int input) {
  if (input >= 0 && input < static_cast<int>(model.inputs.size()) &&
      model.inputs[static_cast<std::size_t>(input)].state)
    return;
  throw Error(ErrorKind::kInvalidValue,
              {.area = "session", .what = "not a state input", .got = std::to_string(input)});
}
}  // namespace

Buffer Session::state(int input) const {
  check_state(impl_->plan->model(), input);
  return impl_->states[static_cast<std::size_t>(input)];
}

void Session::set_state(int input, Buffer value) {
  const ProgramModel& model = impl_->plan->model();
  check_state(model, input);
  const auto i = static_cast<std::size_t>(input);
  const Value& expected = model.values[static_cast<std::size_t>(model.inputs[i].value)];
  if (value && (value.dtype() != expected.dtype || value.shape() != expected.shape)) {
    wrong_input(model, i, std::string(dtype_name(value.dtype())) + shape_text(value.shape()));
  }
  if (value && !impl_->plan->device.backend().reaches(value)) {
    Buffer copy = impl_->plan->device.backend().allocate(value.dtype(), value.shape());
    copy.copy_from(value);
    value = std::move(copy);
  }
  impl_->states[i] = std::move(value);
}

void Session::share_state(Session& other) {
  const auto& ours = impl_->plan->model().inputs;
  const auto& theirs = other.impl_->plan->model().inputs;
  std::map<std::string, int> named;
  for (std::size_t j = 0; j < theirs.size(); ++j) {
    if (theirs[j].state) named.emplace(theirs[j].name, static_cast<int>(j));
  }
  for (std::size_t i = 0; i < ours.size(); ++i) {
    const auto match = named.find(ours[i].name);
    if (!ours[i].state || match == named.end()) continue;
    Buffer shared = other.state(match->second);
    if (!shared) shared = impl_->states[i];
    if (!shared) {
      const Value& value = impl_->plan->model().values[static_cast<std::size_t>(ours[i].value)];
      shared = impl_->plan->device.backend().allocate(value.dtype, value.shape, true);
    }
    set_state(static_cast<int>(i), shared);
    other.set_state(match->second, state(static_cast<int>(i)));
    if (state(static_cast<int>(i)).data() != other.state(match->second).data()) {
      throw Error(ErrorKind::kInvalidValue, {.area = "session",
                                             .what = "the sessions cannot share " + quoted(ours[i].name),
                                             .got = "executors of different devices",
                                             .expected = "one device"});
    }
  }
}

void Session::reset() {
  for (Buffer& state : impl_->states) state = Buffer();
}

}  // namespace npu
