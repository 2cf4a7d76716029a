// The state of one run.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "core/plan/plan.h"
#include "core/weights/prepare.h"
#include "npu/executor.h"

namespace npu {

struct Session::Impl {
  explicit Impl(std::shared_ptr<const Plan> plan);

  void run(std::span<const Buffer> inputs, const Weights& weights, std::span<const bool> donate,
           std::span<Buffer> outputs, bool profile);
  void settle();

  std::shared_ptr<const Plan> plan;
  std::vector<Buffer> states;  // by input
  std::vector<KernelTime> times;

 private:
  class Turn;
  void run_alone(std::span<const Buffer> inputs, const Weights& weights, std::span<const bool> donate,
                 std::span<Buffer> outputs, bool profile);
  void use_weights(const Weights& weights);
  void find_weight_memory(const Weights& weights);
  void bind_input(std::size_t i, const Buffer& input, bool donated, const Weights& weights);
  void begin_state(std::size_t i, const Weights& weights);
  void refuse_shared(std::span<const Buffer> inputs) const;
  void refuse_weights(std::span<const Buffer> inputs, const Weights& weights) const;
  void bind_output(std::size_t i, std::span<Buffer> outputs);
  Buffer recycled(std::size_t output, const Value& value);
  Buffer reachable_copy(std::size_t i, const Buffer& input, bool keep);
  void run_steps(bool profile);
  void describe_times();

  const DeviceBackend& backend_;
  std::unique_ptr<Runner> runner_;
  void bind_arena();

  Buffer arena_, scratch_;
  std::vector<Buffer> separate_;             // instead of the arena, by value
  std::vector<Address> addresses_, packed_;  // by value; by Plan::packed
  std::vector<Buffer> copies_;               // of inputs that the device cannot reach, by input
  std::vector<Buffer> taken_;                // inputs whose memory an output takes over, by input
  std::vector<std::vector<Buffer>> pool_;    // outputs handed out before, by output
  std::shared_ptr<const PreparedWeights> prepared_;
  std::uint64_t version_ = 0;  // of the weights that prepared_ was made from
  std::vector<std::pair<const std::byte*, const std::byte*>> weight_memory_;  // theirs, disjoint and sorted
  std::vector<StepTime> step_times_;
  std::atomic_flag running_;
};

}  // namespace npu
