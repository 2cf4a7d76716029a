// Expressions with more operands than a kernel can be given, in parts.
#pragma once

#include <vector>

#include "core/program/opset.gen.h"

namespace npu::gpu {

// One of them. `["in", i]` in its expression is operands[i]: an input of the op, or the result of an earlier
// part as -1 - its number.
struct MapPart {
  Expr expr;
  std::vector<int> operands;
};

// Parts of at most `most` operands each, in order; the last one gives the result.
std::vector<MapPart> split_expression(const Expr& expr, std::size_t most);

}  // namespace npu::gpu
