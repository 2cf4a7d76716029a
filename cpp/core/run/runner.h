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

// Where everything is for one run. What lies in the arena has its place too.
struct RunPlaces {
  std::span<const Place> values;  // by value of the plan
  std::span<const Place> packed;  // by Plan::packed
  Place scratch;
};

class Runner {
 public:
  virtual ~Runner() = default;
  // Returns when outputs can be read. `times` is empty, or has an element for each step.
  virtual void run(const RunPlaces& places, std::span<StepTime> times) = 0;
  // One step of the plan alone; returns when it is done.
  virtual void run_step(const RunPlaces& places, std::size_t step) = 0;
};

std::int64_t nanoseconds_now();

}  // namespace npu
