// What the steps of an expression do: the loops are in the micro kernels.
#include "cpu/element.h"
#include "cpu/expression.h"
#include "npu/error.h"

namespace npu::cpu {

namespace {

using Int = std::int64_t;

void refuse_zeros(const Int* b, Int n) {
  for (Int i = 0; i < n; ++i) {
    if (b[i] != 0) continue;
    throw Error(ErrorKind::kInvalidValue, {.area = "run",
                                           .what = "an integer was divided by zero",
                                           .got = {},
                                           .expected = "divisors other than 0",
                                           .action = {}});
  }
}

bool divides(ExprOp op) {
  return op == ExprOp::kIdivFloor || op == ExprOp::kIdivTrunc || op == ExprOp::kIremFloor ||
         op == ExprOp::kIremTrunc;
}

void round_to(const Micro& micro, DType dtype, float* y, Int n) {
  std::uint16_t narrow[kExprBlock];
  if (dtype == DType::kFloat16) {
    micro.store_f16(y, narrow, n);
    micro.load_f16(narrow, y, n);
  } else if (dtype == DType::kBFloat16) {
    micro.store_bf16(y, narrow, n);
    micro.load_bf16(narrow, y, n);
  }
}

void run_cast(const Micro& micro, const Expression::Step& step, const std::byte* x, std::byte* y, Int n) {
  if (step.takes == 'f') {
    micro.cast_floats(step.dtype, reinterpret_cast<const float*>(x), y, n);
  } else if (step.takes == 'i') {
    micro.cast_integers(step.dtype, reinterpret_cast<const Int*>(x), y, n);
  } else {
    micro.cast_bools(step.dtype, reinterpret_cast<const std::uint8_t*>(x), y, n);
  }
  round_to(micro, step.dtype, reinterpret_cast<float*>(y), n);
}

void run_float_step(const Micro& micro, const Expression::Step& step, const float* a, const float* b,
                    float* y, Int n) {
  const bool two = kExprOps[static_cast<int>(step.op)].takes.size() == 2;
  two ? micro.binary(step.op, a, b, y, n) : micro.unary(step.op, a, y, n);
}

}  // namespace

void run_step(const Micro& micro, const Expression::Step& step, const std::byte* const* args, std::byte* y,
              std::int64_t n) {
  const auto floats = [&](int k) { return reinterpret_cast<const float*>(args[k]); };
  const auto integers = [&](int k) { return reinterpret_cast<const Int*>(args[k]); };
  const auto bools = [&](int k) { return reinterpret_cast<const std::uint8_t*>(args[k]); };
  if (step.op == ExprOp::kWhere) {
    if (step.gives == 'f') return micro.where(bools(0), floats(1), floats(2), reinterpret_cast<float*>(y), n);
    if (step.gives == 'i')
      return micro.choose_integers(bools(0), integers(1), integers(2), reinterpret_cast<Int*>(y), n);
    return micro.choose_bools(bools(0), bools(1), bools(2), reinterpret_cast<std::uint8_t*>(y), n);
  }
  if (step.op == ExprOp::kCast) return run_cast(micro, step, args[0], y, n);
  if (step.takes == 'f')
    return run_float_step(micro, step, floats(0), floats(1), reinterpret_cast<float*>(y), n);
  if (step.takes == 'b')
    return micro.bools(step.op, bools(0), bools(1), reinterpret_cast<std::uint8_t*>(y), n);
  if (step.gives == 'b')
    return micro.compare_integers(step.op, integers(0), integers(1), reinterpret_cast<std::uint8_t*>(y), n);
  if (divides(step.op)) refuse_zeros(integers(1), n);
  micro.integers(step.op, integers(0), integers(1), reinterpret_cast<Int*>(y), n);
}

}  // namespace npu::cpu
