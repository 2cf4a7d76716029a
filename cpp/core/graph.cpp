#include "npu/graph.h"

#include <algorithm>
#include <utility>

#include "npu/error.h"

namespace npu {

namespace {

[[noreturn]] void refuse(const std::string& what, const std::string& got, const std::string& expected) {
  throw Error(ErrorKind::kInvalidValue, {.area = "graph", .what = what, .got = got, .expected = expected});
}

}  // namespace

Graph::Graph(std::vector<std::string> names, std::vector<int> results)
    : names_(std::move(names)), kept_(names_.size(), false), read_by_program_(names_.size(), false) {
  for (const int slot : results) {
    if (slot < 0 || static_cast<std::size_t>(slot) >= slots())
      refuse("a result is no slot", std::to_string(slot), std::to_string(slots()) + " slots");
    kept_[static_cast<std::size_t>(slot)] = true;
  }
}

void Graph::add_program(Executor executor, std::vector<int> inputs, std::vector<int> outputs) {
  const Program& program = executor.program();
  if (inputs.size() != program.inputs().size() || outputs.size() != program.outputs().size()) {
    refuse("the slots of a program do not fit it",
           std::to_string(inputs.size()) + " inputs and " + std::to_string(outputs.size()) + " outputs",
           std::to_string(program.inputs().size()) + " and " + std::to_string(program.outputs().size()));
  }
  Part part;
  part.executor = std::move(executor);
  part.inputs = std::move(inputs);
  part.outputs = std::move(outputs);
  add(std::move(part));
}

void Graph::add_host(HostPart run, std::vector<int> inputs, std::vector<int> outputs) {
  Part part;
  part.host = std::move(run);
  part.inputs = std::move(inputs);
  part.outputs = std::move(outputs);
  add(std::move(part));
}

void Graph::add(Part part) {
  const auto check = [&](int slot, int least) {
    if (slot < least || slot >= static_cast<int>(slots()))
      refuse("a part names no slot", std::to_string(slot), std::to_string(slots()) + " slots");
  };
  for (const int slot : part.inputs) check(slot, part.executor ? -1 : 0);
  for (const int slot : part.outputs) check(slot, 0);
  const auto touch = [&](int slot) {
    if (slot < 0) return;
    for (Part& earlier : parts_) std::erase(earlier.last_read, slot);
    if (!kept_[static_cast<std::size_t>(slot)]) part.last_read.push_back(slot);
  };
  for (const int slot : part.inputs) {
    touch(slot);
    if (slot >= 0 && part.executor) read_by_program_[static_cast<std::size_t>(slot)] = true;
  }
  for (const int slot : part.outputs) touch(slot);
  parts_.push_back(std::move(part));
}

bool Graph::read_by_program(int slot) const { return read_by_program_.at(static_cast<std::size_t>(slot)); }

void Graph::run(std::span<GraphValue> values, std::span<const Weights> weights) const {
  if (values.size() != slots() || weights.size() != parts()) {
    refuse("the number of values or weights is wrong",
           std::to_string(values.size()) + " and " + std::to_string(weights.size()),
           std::to_string(slots()) + " and " + std::to_string(parts()));
  }
  for (std::size_t p = 0; p < parts_.size(); ++p) {
    const Part& part = parts_[p];
    if (part.executor) {
      run_program(part, values, weights[p]);
    } else {
      run_host(part, values);
    }
    for (const int slot : part.last_read) values[static_cast<std::size_t>(slot)] = {};
  }
}

void Graph::run_program(const Part& part, std::span<GraphValue> values, const Weights& weights) const {
  std::vector<Buffer> inputs(part.inputs.size()), outputs(part.outputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (part.inputs[i] < 0) continue;
    const auto slot = static_cast<std::size_t>(part.inputs[i]);
    if (values[slot].foreign && !values[slot].buffer)
      refuse("a program reads " + quoted(names_[slot]), "something else", "a tensor");
    inputs[i] = values[slot].buffer;
  }
  part.executor->run(inputs, weights, {}, outputs);
  for (std::size_t i = 0; i < outputs.size(); ++i)
    values[static_cast<std::size_t>(part.outputs[i])] = {std::move(outputs[i]), nullptr};
}

void Graph::run_host(const Part& part, std::span<GraphValue> values) const {
  std::vector<GraphValue> inputs, outputs(part.outputs.size());
  for (const int slot : part.inputs) {
    inputs.push_back(values[static_cast<std::size_t>(slot)]);
    if (!inputs.back())
      refuse("a part reads " + quoted(names_[static_cast<std::size_t>(slot)]), "nothing",
             "a value that is given or made before");
  }
  part.host(inputs, outputs);
  inputs.clear();
  for (std::size_t i = 0; i < outputs.size(); ++i)
    values[static_cast<std::size_t>(part.outputs[i])] = std::move(outputs[i]);
}

}  // namespace npu
