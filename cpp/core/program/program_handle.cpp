#include <algorithm>
#include <cstring>

#include "core/base/memory.h"
#include "core/program/program.h"
#include "npu/buffer.h"
#include "npu/program.h"

namespace npu {

struct Program::State {
  ProgramModel model;
  std::vector<TensorSpec> inputs, outputs, weights, constants;
};

namespace {

template <class State>
std::shared_ptr<const State> make_state(ProgramModel model) {
  auto state = std::make_shared<State>();
  state->model = std::move(model);
  const ProgramModel& m = state->model;
  const auto spec = [&](const std::string& name, int value) {
    TensorSpec s;
    s.name = name;
    s.dtype = m.values[static_cast<std::size_t>(value)].dtype;
    s.shape = m.values[static_cast<std::size_t>(value)].shape;
    return s;
  };
  for (const auto& input : m.inputs) {
    state->inputs.push_back(spec(input.name, input.value));
    state->inputs.back().required = input.required;
    state->inputs.back().state = input.state;
  }
  for (const auto& output : m.outputs) {
    state->outputs.push_back(spec(output.name, output.value));
    state->outputs.back().names = output.names;
    state->outputs.back().alias = output.alias;
  }
  for (const auto& weight : m.weights) {
    state->weights.push_back(spec(weight.name, weight.value));
    state->weights.back().names = weight.ties;
  }
  for (const auto& constant : m.constants) state->constants.push_back(spec(constant.name, constant.value));
  return state;
}

}  // namespace

Buffer bind_constant(const ProgramModel& program, const ProgramConstant& constant) {
  const Value& value = program.values[static_cast<std::size_t>(constant.value)];
  void* const data = const_cast<std::byte*>(program.constant_data.data() + constant.offset);
  if (reinterpret_cast<std::uintptr_t>(data) % size_of(value.dtype) == 0) {
    return Buffer::wrap(data, value.dtype, value.shape, std::const_pointer_cast<void>(program.keep_alive));
  }
  Buffer copy = Buffer::allocate(value.dtype, value.shape);
  std::copy_n(static_cast<const std::byte*>(data), copy.bytes(), static_cast<std::byte*>(copy.data()));
  return copy;
}

Program Program::load(const std::string& path) { return load(File::open(path)); }

Program Program::load(const File& file) {
  Program program;
  program.state_ = make_state<State>(read_program(file.bytes(), file.name(), file.memory()));
  return program;
}

Program Program::parse(std::span<const std::byte> bytes) {
  const auto copy =
      std::make_shared<Buffer>(Buffer::allocate(DType::kUInt8, {static_cast<std::int64_t>(bytes.size())}));
  if (!bytes.empty()) std::memcpy(copy->data(), bytes.data(), bytes.size());
  Program program;
  program.state_ = make_state<State>(
      read_program({static_cast<const std::byte*>(copy->data()), bytes.size()}, "program", copy));
  return program;
}

const std::string& Program::model_name() const { return state_->model.model_name; }
const std::vector<TensorSpec>& Program::inputs() const { return state_->inputs; }
const std::vector<TensorSpec>& Program::outputs() const { return state_->outputs; }
const std::vector<TensorSpec>& Program::weights() const { return state_->weights; }
const std::vector<TensorSpec>& Program::constants() const { return state_->constants; }
Buffer Program::constant(const std::string& name) const {
  for (const auto& constant : state_->model.constants) {
    if (constant.name == name) return bind_constant(state_->model, constant);
  }
  return {};
}
std::string Program::text() const { return program_text(state_->model); }
const ProgramModel& Program::model() const { return state_->model; }

}  // namespace npu
