// Parts of a value that several ops write.
#pragma once

#include <string>
#include <vector>

#include "core/program/program.h"

namespace npu {

// Whether views of a value with `elements` elements write each of them exactly once; the reason if not. What
// it cannot prove it refuses.
std::string check_writers(const std::vector<const Operand*>& views, std::int64_t elements);

}  // namespace npu
