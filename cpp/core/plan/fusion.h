// Ops that a device may do in one step.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "core/program/program.h"

namespace npu {

// For each op of `main`, ops before it that may be done on its way, the nearest first: what each makes is
// read by the next one alone, and whatever runs in between leaves what they read as it is. How many of these
// a step takes is for the device to say (DeviceBackend::make_kernel).
std::vector<std::vector<std::size_t>> fusible_ops(const ProgramModel& program);

// `op` as it reads what `before` reads: the operand that `before` makes is replaced, and the further operands
// of `before` come last. Nothing where no rule joins the two.
std::optional<Op> joined(const Op& before, const Op& op);

}  // namespace npu
