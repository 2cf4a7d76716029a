// What expressions do with integers.
#pragma once

#include <cstdint>

#include "core/program/opset.gen.h"
#include "npu/dtype.h"

namespace npu::cpu {

// Steps of expressions over registers of one integer dtype. Results wrap.
struct IntegerSteps {
  // No divisor is 0. `b` may be null where an op takes one operand.
  void (*compute)(ExprOp op, const void* a, const void* b, void* y, std::int64_t n);
  void (*compare)(ExprOp op, const void* a, const void* b, std::uint8_t* y, std::int64_t n);
  void (*choose)(const std::uint8_t* c, const void* a, const void* b, void* y, std::int64_t n);
  bool (*any_zero)(const void* x, std::int64_t n);
  // To registers of another dtype, which is float32, bool or the integers' own; int64 registers hold what any
  // integer dtype makes of an element.
  void (*from_floats)(DType dtype, const void* x, void* y, std::int64_t n);
  void (*from_bools)(DType dtype, const void* x, void* y, std::int64_t n);
  void (*convert)(DType dtype, const void* x, void* y, std::int64_t n);
};

}  // namespace npu::cpu
