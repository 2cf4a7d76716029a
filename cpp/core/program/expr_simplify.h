// Expressions made cheaper, for every device alike.
#pragma once

#include "core/program/opset.gen.h"

namespace npu {

// Powers by constants that are products, roots or reciprocals, as PyTorch computes them.
Expr with_simple_powers(const Expr& expr);

}  // namespace npu
