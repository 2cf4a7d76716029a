// A program laid out for a device: kernels, layouts, addresses in memory. Immutable once built.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/machine/thread_pool.h"
#include "core/plan/device_backend.h"
#include "core/plan/kernel.h"
#include "core/plan/layout.h"
#include "npu/device.h"
#include "npu/executor.h"
#include "npu/program.h"
#include "npu/weights.h"

namespace npu {

enum class Space : std::uint8_t { kArena, kInput, kOutput, kWeight, kConstant, kPrepared };

struct PlannedValue {
  Value value;
  Layout layout = Layout::kRowMajor;
  Space space = Space::kArena;
  int index = -1;           // of the input, output, weight or constant
  std::int64_t offset = 0;  // in the arena, or in the constants
  int memory_of = -1;       // the value whose memory it takes over; -1: its own
};

struct PlannedOperand {
  int value = -1;           // -1: absent
  std::int64_t offset = 0;  // in bytes, from the value's start
};

struct Step {
  std::unique_ptr<const Op> op;  // kernels may refer to it
  std::vector<const Op*> fused;  // fused ops of the program, the nearest first; see fusion.h
  std::unique_ptr<Kernel> kernel;
  std::vector<PlannedOperand> inputs, outputs;
  std::vector<TensorDesc> input_descs, output_descs;
  int packed = -1;               // index of the packed form it reads
  bool made_for_layout = false;  // inserted by the planner, not in the program

  std::string name() const;  // for people
};

// The kernel of a step that a host device made: all of `prepare`, and all of a host device's plan.
inline const HostKernel& host_kernel(const Step& step) {
  return static_cast<const HostKernel&>(*step.kernel);
}

// Weights keep what they prepared for a plan, and the state of its runs, until the plan is gone.
class PlanUsers {
 public:
  void add(std::weak_ptr<Weights::State> weights);
  // Drops what weights keep for this plan.
  void forget(std::uint64_t plan);

 private:
  std::mutex mutex_;
  std::vector<std::weak_ptr<Weights::State>> weights_;
};

struct Plan {
  // With `whole`, each op of the program is one step, of the whole batch.
  Plan(Program program_, Device device_, int threads_, bool whole = false);
  ~Plan() { users.forget(id); }
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  std::uint64_t id;  // no other plan of this process has it
  Program program;
  Device device;
  int threads;
  std::shared_ptr<ThreadPool> pool;
  std::vector<PlannedValue> values;       // those of the program, then copies in another layout
  std::vector<Step> steps;                // of main
  std::vector<Step> prepare;              // in the program's order
  std::vector<int> packed;                // steps that read a packed form
  std::vector<int> output_values;         // per program output
  std::size_t operands_at_most = 0;       // of one step, inputs plus outputs
  std::size_t scratch_bytes = 0;          // of main
  std::size_t prepare_scratch_bytes = 0;  // of prepare
  mutable PlanUsers users;                // weights that hold something made for this plan
  std::int64_t arena_bytes = 0, largest_live_bytes = 0;

  std::optional<ProgramModel> pieces;  // where batches are divided

  const ProgramModel& model() const { return pieces ? *pieces : program.model(); }
  std::unique_ptr<const DevicePlan> device_plan;  // what the device adds; may be null
  std::string text() const;

 private:
  void assign_spaces();
  void assign_layouts();  // plan_layouts.cpp
  Step resolve_operands(const Op& op) const;
  KernelRequest request_of(const Step& step) const;
  Step make_step(const Op& op);
  Step make_prepare_step(const Op& op) const;
  void add_main_steps();
  void copy_unreadable(Op& op);
  void gather_channels(Op& op);
  std::vector<std::pair<Operand, Operand>> divert_results(Op& op);
  void add_main_step(Op op);
  void add_with_fused(std::span<const std::size_t> before, const Op& op);
  std::optional<Step> make_fused_step(std::span<const std::size_t> fused, const Op& op) const;
  void count(const Step& step);
  void count_operands(const Step& step);
  Operand add_value(const Operand& like, const std::string& name, Layout layout);
  void add_layout_copy(const Operand& from, const Operand& to, const std::string& name);
  Operand relayout(const Operand& operand, Layout layout, const std::string& reader);
};

}  // namespace npu
