// What an expression's compiled form is made of; for expression.cpp and expression_build.cpp.
#pragma once

#include <climits>

#include "cpu/expression.h"

namespace npu::cpu {

// A slot is a byte offset in the scratch, kOutSlot for the output, or -1 - k for operand k.
inline constexpr int kOutSlot = INT_MIN;

inline constexpr std::size_t kMostFused = 256;  // steps of cpu/fused.h at once

// The dtype in which integers can be computed: that of all integers stored, where what wraps in it is the
// same as what int64 gives, else int64. The steps are in the order in which they are taken.
DType integer_dtype(const Expr& expr, const std::vector<DType>& operands, DType out);

}  // namespace npu::cpu
