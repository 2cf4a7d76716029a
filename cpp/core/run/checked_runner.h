// A plan against itself: what it does with the memory of the arena and in place, and what it would do
// without.
#pragma once

#include <memory>

#include "core/plan/plan.h"
#include "core/run/runner.h"

namespace npu {

// Whether NPU_CHECK_PLAN is set.
bool plans_are_checked();

// Follows the plan step by step with `runner`, and runs each step again with every value in memory of its
// own. Throws an internal error that names the step if a bit differs, or if a step writes over what is read
// later.
std::unique_ptr<Runner> make_checked_runner(const Plan& plan, std::unique_ptr<Runner> runner);

}  // namespace npu
