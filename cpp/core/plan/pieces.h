// Batches done a few images at a time.
#pragma once

#include <optional>

#include "core/program/program.h"

namespace npu {

// The program with its first ops done for a few images after the others, so that what they pass on stays in
// cache; nothing where this does not pay. Only ops that treat images alike, and each alone, are divided.
// Those of one piece have the names of the ops that they are parts of.
std::optional<ProgramModel> in_pieces(const ProgramModel& program);

}  // namespace npu
