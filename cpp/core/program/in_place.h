// Which results may lie in the memory of operands. What each op allows is in the op set (OpInfo::in_place).
#pragma once

#include <functional>

#include "core/program/program.h"

namespace npu {

// Whether the op names operands whose memory the result may lie in.
bool writes_in_place(const Op& op, std::size_t result);

// Whether the result may be written to memory in which some of the operands lie. All of those must be whole,
// of the result's shape, and named for it: a kernel then has read all it needs of an element before it writes
// there. Elements must have one size, which is for the caller to see to.
bool may_write_over(const Op& op, std::size_t result, const std::function<bool(const Operand&)>& lies_there);

}  // namespace npu
