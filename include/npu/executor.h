// Runs a program on a device.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "npu/buffer.h"
#include "npu/device.h"
#include "npu/program.h"
#include "npu/steps.h"
#include "npu/weights.h"

namespace npu {

struct ExecutorOptions {
  int threads = 0;  // 0: npu::num_threads()
};

// The time of one kernel, summed over profiled runs.
struct KernelTime {
  std::string op;      // its name in the program
  std::string kernel;  // what ran
  std::int64_t calls = 0;
  std::int64_t nanoseconds = 0;
  std::int64_t last_start = 0;  // of the last call, since the start of its run
  std::int64_t last_nanoseconds = 0;
  double flops = 0;  // of one call
  double bytes = 0;
};

struct PlanSummary {
  std::int64_t arena_bytes = 0;  // of one session
  std::int64_t scratch_bytes = 0;
  std::int64_t largest_live_bytes = 0;  // the most that intermediates hold at once
  int kernels = 0;
  // Of GPUs; zero where the host runs the kernels.
  int dispatches = 0;  // not counting copies that donated or session-held inputs make unnecessary
  int barriers = 0;
  double bytes = 0;        // that a run moves from and to memory, each operand and result of a launch once
  double least_bytes = 0;  // the same for the ops of the program alone
  double seconds = 0;      // of a run, estimated; 0 for a chip that is not known
};

// One run's state: intermediates, outputs to recycle, and the tensors that programs keep between runs. For
// one thread at a time.
class Session {
 public:
  // Inputs in the order of program().inputs(); an empty Buffer is a missing one. `donate` names those by
  // index whose memory the outputs may take over. Returned buffers stay valid as long as they are held.
  void run(std::span<const Buffer> inputs, const Weights& weights, std::span<const bool> donate,
           std::span<Buffer> outputs, bool profile = false);
  std::vector<Buffer> run(std::span<const Buffer> inputs, const Weights& weights);

  // Some devices go on making a plan quicker while it runs, on the side; waits until that is done.
  void settle();

  const std::vector<KernelTime>& times() const;  // of profiled runs
  void clear_times();

  Buffer state(int input) const;  // what a state input holds; empty before the first run
  void set_state(int input, Buffer value);
  // From now on both hold the same tensors for the state inputs whose names they share: what one writes, the
  // other finds. Those that neither has begun start as zeros. Not while either runs.
  void share_state(Session& other);
  void reset();  // forgets all state

  struct Impl;
  explicit Session(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

 private:
  std::shared_ptr<Impl> impl_;
};

// An immutable plan; may be used from many threads.
class Executor {
 public:
  Executor(Program program, Device device, ExecutorOptions options = {});

  const Program& program() const;
  const Device& device() const;
  int threads() const;
  PlanSummary summary() const;
  std::string plan() const;  // as text: kernels, layouts, offsets in memory

  Session session() const;
  Steps steps() const;  // to run them one by one
  // In a session of its own for each caller; state inputs that are missing come from the default session of
  // `weights`.
  void run(std::span<const Buffer> inputs, const Weights& weights, std::span<const bool> donate,
           std::span<Buffer> outputs) const;
  std::vector<Buffer> run(std::span<const Buffer> inputs, const Weights& weights) const;

  // Does now what the first run would do: folds, casts and packs weights.
  void prepare(const Weights& weights, const Progress& progress = {}) const;

  struct Impl;
  const std::shared_ptr<const Impl>& impl() const { return impl_; }

 private:
  std::shared_ptr<const Impl> impl_;
};

}  // namespace npu
