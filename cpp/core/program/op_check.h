// What each op demands of its operands and attributes; kernels rely on it. The op set states it where it can
// (op_rules.gen.h); the other ops have a function in op_check.cpp, op_check_attention.cpp or
// op_check_spatial.cpp.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "core/base/file_spot.h"
#include "core/program/program.h"

namespace npu {

struct Quantization;

// An op under examination. The op has the operands of its table, all of them inside their values.
struct OpCheck {
  const ProgramModel& program;
  const Op& op;
  const FileSpot& spot;

  const Operand& in(std::size_t i) const { return op.inputs[i]; }
  const Operand& out(std::size_t i = 0) const { return op.outputs[i]; }
  DType dtype(const Operand& operand) const {
    return program.values[static_cast<std::size_t>(operand.value)].dtype;
  }
  std::size_t rank(const Operand& operand) const { return operand.shape.size(); }

  void need(bool condition, const char* rule) const {
    if (!condition) refuse(rule);
  }
  [[noreturn]] void refuse(const char* rule) const;
  void need_shape(const Operand& operand, const Shape& shape, const char* name) const;
  void need_dtype(const Operand& operand, DType wanted, const char* name) const;
  void need_float(const Operand& operand, const char* name) const;
  void need_integer(const Operand& operand, const char* name) const;
  void need_axis(std::int64_t axis, const Operand& operand) const;
  // Operands that stand for numbers of this shape: integers (`name`), scales, offsets and units.
  void need_quantized(const Quantization& how, const std::array<std::size_t, 4>& operands, const Shape& shape,
                      const char* name) const;
  void need_same(const Operand& a, const Operand& b) const;  // shape and dtype
  void need_epilogue(const Expr& epilogue) const;  // of conv and matmul: their extras and dtype of `out`
};

void check_op(const OpCheck& check);

// The dtype in which a sum or product of these is given.
inline DType sum_dtype(DType from) { return is_float(from) ? from : DType::kInt64; }

}  // namespace npu
