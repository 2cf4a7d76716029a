// A model that runs in parts: programs on devices, and the rest where the caller has it run.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "npu/buffer.h"
#include "npu/device.h"
#include "npu/executor.h"
#include "npu/weights.h"

namespace npu {

// What a slot holds: a tensor, something that only the caller's parts understand, or both forms of one thing.
// The memory of a tensor that is `owned` may be written by the part that reads it last.
struct GraphValue {
  Buffer buffer;
  std::shared_ptr<void> foreign;
  bool owned = false;
  explicit operator bool() const noexcept { return buffer || foreign; }
};

// Immutable once its parts are added; then it may be used from many threads. Parts run in the order in which
// they were added and pass what they make on by slot, without copies where the memory can be shared.
class Graph {
 public:
  // A part of the caller's: reads `inputs`, fills `outputs`, both in the order of its slots.
  using HostPart = std::function<void(std::span<const GraphValue> inputs, std::span<GraphValue> outputs)>;

  // Of such a part, by index among its inputs and outputs: the output is the input's memory, which the part
  // writes. It gets a copy to write where others still need the old contents.
  struct Update {
    int input = 0;
    int output = 0;
  };

  // One slot for each name; `results` are kept to the end, all others only to their last use.
  Graph(std::vector<std::string> names, std::vector<int> results);

  // Slots in the order of the program's inputs and outputs; -1 for an input that is left out.
  void add_program(Executor executor, std::vector<int> inputs, std::vector<int> outputs);
  void add_host(HostPart run, std::vector<int> inputs, std::vector<int> outputs,
                std::vector<Update> updates = {}, std::optional<Device> device = {});

  std::size_t slots() const { return names_.size(); }
  std::size_t parts() const { return parts_.size(); }
  const std::vector<std::string>& names() const { return names_; }
  bool needs_buffer(int slot) const;  // whether programs or updates must be able to read it

  // `values` by slot: what is given; afterwards the results. `weights` by part. `copied`, by slot, gets the
  // bytes that were copied: to where a device reaches them, or since an update could not be in place.
  void run(std::span<GraphValue> values, std::span<const Weights> weights,
           std::span<std::int64_t> copied = {}) const;

 private:
  struct Run;
  struct Part {
    std::optional<Executor> executor;
    HostPart host;
    std::vector<Update> updates;
    std::optional<Device> device;  // where a host part's updates lie
    std::vector<int> inputs, outputs;
    std::vector<int> last_read;  // slots that nobody reads after it
  };

  void add(Part part);
  void run_program(const Part& part, Run& run, const Weights& weights) const;
  void run_host(const Part& part, Run& run) const;
  bool may_take(const Part& part, int slot, const Run& run) const;
  Buffer writable(const Part& part, const Update& update, Run& run) const;
  void bring(const Executor& executor, int slot, bool updated, Run& run) const;

  std::vector<std::string> names_;
  std::vector<Part> parts_;
  std::vector<bool> kept_, needs_buffer_;
  std::vector<int> program_readers_;  // by slot
};

}  // namespace npu
