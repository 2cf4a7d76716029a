// Expressions as a person writes them.
#pragma once

#include <string>

#include "core/program/opset.gen.h"

namespace npu {

// "t1 = exp(e0); t1 / (1.0 + t1)": e0, e1, ... are operands, acc is what an epilogue is applied to
// (and e1, where it is gated, the second sum).
std::string expr_text(const Expr& expr, bool epilogue);

std::string number_text(double number);  // the shortest that reads back as the same

}  // namespace npu
