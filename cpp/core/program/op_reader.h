// Ops in program files.
#pragma once

#include "core/base/file_spot.h"
#include "core/program/program.h"

namespace npu {

// A shape whose extents may depend on symbols: `shape` gets the largest extents; `extents` stays empty when
// none does.
void read_shape(Json json, std::string_view key, const std::vector<Symbol>& symbols, const FileSpot& spot,
                Shape& shape, std::vector<Extent>& extents);

// `program` has its values by now.
Op read_op(Json json, const ProgramModel& program, const FileSpot& spot);

}  // namespace npu
