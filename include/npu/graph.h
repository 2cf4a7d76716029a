// A model that runs in parts: programs on devices, and the rest where the caller has it run.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "npu/buffer.h"
#include "npu/executor.h"
#include "npu/weights.h"

namespace npu {

// What a slot holds: a tensor, something that only the caller's parts understand, or both forms of one thing.
struct GraphValue {
  Buffer buffer;
  std::shared_ptr<void> foreign;
  explicit operator bool() const noexcept { return buffer || foreign; }
};

// Immutable once its parts are added; then it may be used from many threads. Parts run in the order in which
// they were added and pass what they make on by slot, without copies where the memory can be shared.
class Graph {
 public:
  // A part of the caller's: reads `inputs`, fills `outputs`, both in the order of its slots.
  using HostPart = std::function<void(std::span<const GraphValue> inputs, std::span<GraphValue> outputs)>;

  // One slot for each name; `results` are kept to the end, all others only to their last use.
  Graph(std::vector<std::string> names, std::vector<int> results);

  // Slots in the order of the program's inputs and outputs; -1 for an input that is left out.
  void add_program(Executor executor, std::vector<int> inputs, std::vector<int> outputs);
  void add_host(HostPart run, std::vector<int> inputs, std::vector<int> outputs);

  std::size_t slots() const { return names_.size(); }
  std::size_t parts() const { return parts_.size(); }
  const std::vector<std::string>& names() const { return names_; }
  bool read_by_program(int slot) const;  // whether it must hold a buffer

  // `values` by slot: what is given; afterwards the results. `weights` by part.
  void run(std::span<GraphValue> values, std::span<const Weights> weights) const;

 private:
  struct Part {
    std::optional<Executor> executor;
    HostPart host;
    std::vector<int> inputs, outputs;
    std::vector<int> last_read;  // slots that nobody reads after it
  };

  void add(Part part);
  void run_program(const Part& part, std::span<GraphValue> values, const Weights& weights) const;
  void run_host(const Part& part, std::span<GraphValue> values) const;

  std::vector<std::string> names_;
  std::vector<Part> parts_;
  std::vector<bool> kept_, read_by_program_;
};

}  // namespace npu
