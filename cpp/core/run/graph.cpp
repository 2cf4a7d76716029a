#include "npu/graph.h"

#include <algorithm>
#include <map>
#include <utility>

#include "core/plan/device_backend.h"
#include "npu/error.h"

namespace npu {

namespace {

[[noreturn]] void refuse(const std::string& what, const std::string& got, const std::string& expected) {
  throw Error(ErrorKind::kInvalidValue, {.area = "graph", .what = what, .got = got, .expected = expected});
}

bool contains(const std::vector<int>& slots, int slot) {
  return std::find(slots.begin(), slots.end(), slot) != slots.end();
}

// The same memory, and a token that lives as long as anything refers to the memory through it.
Buffer lend(const Buffer& buffer, std::weak_ptr<void>& token) {
  const auto keeper = std::make_shared<Buffer>(buffer);
  token = keeper;
  if (buffer.memory() == nullptr) return Buffer::wrap(buffer.data(), buffer.dtype(), buffer.shape(), keeper);
  const std::shared_ptr<Memory> memory(keeper, buffer.shared_memory().get());
  return Buffer::in(memory, buffer.data(), buffer.dtype(), buffer.shape());
}

}  // namespace

// Buffers lent to host functions may live on in views, which may be values too.
struct Graph::Run {
  std::span<GraphValue> values;
  std::span<std::int64_t> copied;
  std::vector<std::pair<const void*, std::weak_ptr<void>>> lent;
  std::map<int, std::pair<const void*, Buffer>> read;  // by slot: what host parts read of a device's memory

  GraphValue& at(int slot) { return values[static_cast<std::size_t>(slot)]; }
  void count(int slot, const Buffer& buffer) {
    if (!copied.empty()) copied[static_cast<std::size_t>(slot)] += static_cast<std::int64_t>(buffer.bytes());
  }
  // One copy for all host parts that read the slot.
  const Buffer& on_host(int slot) const { return read.at(slot).second; }
  // Copies of those that the host does not reach, all at once.
  void fetch(const std::vector<int>& slots) {
    std::vector<int> wanted;
    std::vector<Buffer> buffers;
    for (const int slot : slots) {
      const GraphValue& value = at(slot);
      if (value.foreign || !value.buffer || value.buffer.on_host()) continue;
      const auto known = read.find(slot);
      if (known != read.end() && known->second.first == value.buffer.data()) continue;
      if (contains(wanted, slot)) continue;
      count(slot, value.buffer);
      wanted.push_back(slot);
      buffers.push_back(value.buffer);
    }
    std::vector<Buffer> copies = npu::on_host(std::span<const Buffer>(buffers));
    for (std::size_t i = 0; i < wanted.size(); ++i)
      read[wanted[i]] = {buffers[i].data(), std::move(copies[i])};
  }
  Buffer lend_out(const Buffer& buffer) {
    lent.emplace_back(buffer.data(), std::weak_ptr<void>());
    return lend(buffer, lent.back().second);
  }
};

Graph::Graph(std::vector<std::string> names, std::vector<int> results)
    : names_(std::move(names)),
      kept_(names_.size(), false),
      needs_buffer_(names_.size(), false),
      program_readers_(names_.size(), 0) {
  for (const int slot : results) {
    if (slot < 0 || static_cast<std::size_t>(slot) >= slots())
      refuse("a result is not a slot", std::to_string(slot), std::to_string(slots()) + " slots");
    kept_[static_cast<std::size_t>(slot)] = true;
  }
}

void Graph::add_program(Executor executor, std::vector<int> inputs, std::vector<int> outputs) {
  const Program& program = executor.program();
  if (inputs.size() != program.inputs().size() || outputs.size() != program.outputs().size()) {
    refuse("the number of slots does not match the program",
           std::to_string(inputs.size()) + " inputs and " + std::to_string(outputs.size()) + " outputs",
           std::to_string(program.inputs().size()) + " and " + std::to_string(program.outputs().size()));
  }
  Part part;
  part.executor = std::move(executor);
  part.inputs = std::move(inputs);
  part.outputs = std::move(outputs);
  add(std::move(part));
}

void Graph::add_host(HostPart run, std::vector<int> inputs, std::vector<int> outputs,
                     std::vector<Update> updates, std::optional<Device> device) {
  for (const Update& update : updates) {
    const auto in = static_cast<std::size_t>(update.input), out = static_cast<std::size_t>(update.output);
    if (in >= inputs.size() || out >= outputs.size())
      refuse("an update names no input or output of the part",
             std::to_string(update.input) + " and " + std::to_string(update.output),
             std::to_string(inputs.size()) + " inputs and " + std::to_string(outputs.size()) + " outputs");
  }
  Part part;
  part.host = std::move(run);
  part.updates = std::move(updates);
  part.device = std::move(device);
  part.inputs = std::move(inputs);
  part.outputs = std::move(outputs);
  add(std::move(part));
}

void Graph::add(Part part) {
  const auto check = [&](int slot, int least) {
    if (slot < least || slot >= static_cast<int>(slots()))
      refuse("a part names a slot that does not exist", std::to_string(slot),
             std::to_string(slots()) + " slots");
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
    if (slot < 0 || !part.executor) continue;
    needs_buffer_[static_cast<std::size_t>(slot)] = true;
    ++program_readers_[static_cast<std::size_t>(slot)];
  }
  for (const Update& update : part.updates) {
    const int slot = part.inputs[static_cast<std::size_t>(update.input)];
    needs_buffer_[static_cast<std::size_t>(slot)] = true;
  }
  for (const int slot : part.outputs) touch(slot);
  parts_.push_back(std::move(part));
}

bool Graph::needs_buffer(int slot) const { return needs_buffer_.at(static_cast<std::size_t>(slot)); }

void Graph::run(std::span<GraphValue> values, std::span<const Weights> weights,
                std::span<std::int64_t> copied) const {
  if (values.size() != slots() || weights.size() != parts()) {
    refuse("the number of values or weights is wrong",
           std::to_string(values.size()) + " and " + std::to_string(weights.size()),
           std::to_string(slots()) + " and " + std::to_string(parts()));
  }
  if (!copied.empty() && copied.size() != slots())
    refuse("the number of counts is wrong", std::to_string(copied.size()), std::to_string(slots()));
  Run run{.values = values, .copied = copied, .lent = {}, .read = {}};
  for (std::size_t p = 0; p < parts_.size(); ++p) {
    const Part& part = parts_[p];
    if (part.executor) {
      run_program(part, run, weights[p]);
    } else {
      run_host(part, run);
    }
    for (const int slot : part.last_read) {
      run.at(slot) = {};
      run.read.erase(slot);
    }
  }
}

// Whether this part may write into the value's memory: nothing else reads it, directly or through a view.
bool Graph::may_take(const Part& part, int slot, const Run& run) const {
  const GraphValue& value = run.values[static_cast<std::size_t>(slot)];
  if (!value.owned || !contains(part.last_read, slot)) return false;
  if (std::count(part.inputs.begin(), part.inputs.end(), slot) != 1) return false;
  return std::none_of(run.lent.begin(), run.lent.end(), [&](const auto& lent) {
    return lent.first == value.buffer.data() && !lent.second.expired();
  });
}

// One copy where the device reaches it, for all parts that read it or for the one that updates it; a session
// would make its own.
void Graph::bring(const Executor& executor, int slot, bool updated, Run& run) const {
  GraphValue& value = run.at(slot);
  const DeviceBackend& device = executor.device().backend();
  if (device.reaches(value.buffer)) return;
  run.count(slot, value.buffer);
  if (!updated && program_readers_[static_cast<std::size_t>(slot)] < 2) return;
  Buffer copy = device.allocate(value.buffer.dtype(), value.buffer.shape());
  copy.copy_from(value.buffer);
  value.buffer = std::move(copy);
  value.owned = true;
}

void Graph::run_program(const Part& part, Run& run, const Weights& weights) const {
  const std::vector<TensorSpec>&ins = part.executor->program().inputs(),
        &outs = part.executor->program().outputs();
  std::vector<Buffer> inputs(ins.size()), outputs(outs.size());
  const auto donated = std::make_unique<bool[]>(ins.size() + 1);
  for (std::size_t i = 0; i < ins.size(); ++i) {
    const int slot = part.inputs[i];
    if (slot < 0 || !run.at(slot)) continue;
    if (!run.at(slot).buffer)
      refuse("a program reads " + quoted(names_[static_cast<std::size_t>(slot)]),
             "a value that is not a tensor", "a tensor");
    bring(*part.executor, slot, ins[i].state, run);
    donated[i] = ins[i].state && may_take(part, slot, run);
    inputs[i] = run.at(slot).buffer;
  }
  part.executor->run(inputs, weights, {donated.get(), ins.size()}, outputs);
  for (std::size_t i = 0; i < outs.size(); ++i) {
    const auto alias = static_cast<std::size_t>(outs[i].alias);
    const bool updates = outs[i].alias >= 0, in_session = updates && !inputs[alias];
    if (updates && !in_session && !donated[alias]) run.count(part.outputs[i], outputs[i]);
    run.at(part.outputs[i]) = {std::move(outputs[i]), nullptr, !in_session};
  }
}

Buffer Graph::writable(const Part& part, const Update& update, Run& run) const {
  const int slot = part.inputs[static_cast<std::size_t>(update.input)];
  const Buffer& from = run.at(slot).buffer;
  if (!from)
    refuse("a part updates " + quoted(names_[static_cast<std::size_t>(slot)]), "a value that is not a tensor",
           "a tensor");
  if (from.on_host() && may_take(part, slot, run)) return from;
  run.count(part.outputs[static_cast<std::size_t>(update.output)], from);
  Buffer copy = part.device && part.device->backend().unified()
                    ? part.device->allocate(from.dtype(), from.shape())
                    : Buffer::allocate(from.dtype(), from.shape());
  copy.copy_from(from);
  return copy;
}

void Graph::run_host(const Part& part, Run& run) const {
  std::vector<GraphValue> inputs, outputs(part.outputs.size());
  run.fetch(part.inputs);
  for (const int slot : part.inputs) {
    const GraphValue& value = run.at(slot);
    if (!value)
      refuse("a part reads " + quoted(names_[static_cast<std::size_t>(slot)]), "nothing",
             "a value that is passed in or comes from an earlier part");
    inputs.push_back(value);
    if (value.foreign) continue;
    if (!value.buffer.on_host()) {
      inputs.back() = {run.on_host(slot), nullptr};
    } else if (value.owned) {
      inputs.back() = {run.lend_out(value.buffer), nullptr};
    }
  }
  std::vector<Buffer> updated;
  for (const Update& update : part.updates) {
    const auto i = static_cast<std::size_t>(update.input);
    inputs[i] = {};  // drop the loan, so that it does not count as a reader
    updated.push_back(writable(part, update, run));
    inputs[i] = {run.lend_out(updated.back()), nullptr};
  }
  part.host(inputs, outputs);
  inputs.clear();
  for (std::size_t u = 0; u < updated.size(); ++u)
    outputs[static_cast<std::size_t>(part.updates[u].output)] = {std::move(updated[u]), nullptr, true};
  for (std::size_t i = 0; i < outputs.size(); ++i) run.at(part.outputs[i]) = std::move(outputs[i]);
}

}  // namespace npu
