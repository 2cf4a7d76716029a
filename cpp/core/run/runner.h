// Follows a plan, for one session at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/base/memory.h"

namespace npu {

struct Plan;

struct StepTime {
  std::int64_t start = 0;  // since the run's start, in nanoseconds
  std::int64_t nanoseconds = 0;
};

// Where everything is for one run, what lies in the arena too.
struct RunAddresses {
  std::span<const Address> values;  // by value of the plan
  std::span<const Address> packed;  // by Plan::packed
  Address scratch;
};

class Runner {
 public:
  virtual ~Runner() = default;
  // Returns when outputs can be read. `times` is empty, or has an element for each step.
  virtual void run(const RunAddresses& addresses, std::span<StepTime> times) = 0;
  // One step of the plan alone; returns when it is done.
  virtual void run_step(const RunAddresses& addresses, std::size_t step) = 0;
  // Returns when runs are as quick as they will get; what makes them so is otherwise done on the side.
  virtual void settle() {}
};

std::int64_t nanoseconds_now();

}  // namespace npu
