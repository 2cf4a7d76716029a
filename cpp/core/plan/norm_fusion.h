// Norms whose rows one product alone reads: devices may do both in one step.
#pragma once

#include <vector>

#include "core/program/program.h"

namespace npu {

// For each op of main: the op that normalises the rows which it multiplies, or -1. Nobody else reads what
// that one makes, and the product finds what it reads where it would, whatever runs in between.
std::vector<int> norms_of_products(const ProgramModel& program);

// The product as it reads rows that are not normalised yet: its first operand is the one of the norm, seen
// through both views, and the norm's weight and bias are added at the end.
Op with_norm(const Op& norm, const Op& product);

}  // namespace npu
