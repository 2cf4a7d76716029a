// Steps of expressions that are computed in double: what float32 alone would lose too much for.
#pragma once

#include "cpu/micro.h"

namespace npu::cpu::NPU_ISA {

bool is_wide(ExprOp op);
void wide_unary(ExprOp op, const float* x, float* y, std::int64_t n);
void wide_binary(ExprOp op, const float* a, const float* b, float* y, std::int64_t n);

}  // namespace npu::cpu::NPU_ISA
