// What an expression's compiled form is made of; for expression.cpp and expression_build.cpp.
#pragma once

#include <climits>

#include "cpu/expression.h"

namespace npu::cpu {

// A slot is a byte offset in the scratch, kOutSlot for the output, or -1 - k for operand k.
inline constexpr int kOutSlot = INT_MIN;

inline constexpr std::size_t kMostFused = 256;  // steps of cpu/fused.h at once

constexpr int register_bytes(char type) {
  return static_cast<int>(kExprBlock) * (type == 'f' ? 4 : type == 'i' ? 8 : 1);
}

constexpr DType native(char type) {
  return type == 'f' ? DType::kFloat32 : type == 'i' ? DType::kInt64 : DType::kBool;
}

}  // namespace npu::cpu
