// Which values of a plan lie where in its arena.
#pragma once

#include <vector>

#include "core/plan/arena.h"
#include "core/plan/plan.h"

namespace npu {

// Sets memory_of and offset of what lies in the arena.
ArenaSizes assign_memory(std::vector<PlannedValue>& values, const std::vector<Step>& steps);

}  // namespace npu
