// What the steps of an expression do: the loops are in the micro kernels.
#include "cpu/element.h"
#include "cpu/expression.h"
#include "npu/error.h"

namespace npu::cpu {

namespace {

using Int = std::int64_t;

[[noreturn]] void refuse_zeros() {
  throw Error(ErrorKind::kInvalidValue, {.area = "run",
                                         .what = "an integer was divided by zero",
                                         .got = {},
                                         .expected = "divisors other than 0",
                                         .action = {}});
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

void run_cast(const Micro& micro, const IntegerSteps& integers, const Expression::Step& step,
              const std::byte* x, std::byte* y, Int n) {
  const auto cast = step.takes == 'f'   ? integers.from_floats
                    : step.takes == 'i' ? integers.convert
                                        : integers.from_bools;
  cast(step.dtype, x, y, n);
  round_to(micro, step.dtype, reinterpret_cast<float*>(y), n);
}

void run_float_step(const Micro& micro, bool half, const Expression::Step& step, const float* a,
                    const float* b, float* y, Int n) {
  const bool two = kExprOps[static_cast<int>(step.op)].takes.size() == 2;
  if (half)
    return two ? micro.half_binary(micro, step.op, a, b, y, n) : micro.half_unary(micro, step.op, a, y, n);
  two ? micro.binary(step.op, a, b, y, n) : micro.unary(step.op, a, y, n);
}

}  // namespace

void run_step(const Micro& micro, const StepKinds& kinds, const Expression::Step& step,
              const std::byte* const* args, std::byte* y, std::int64_t n) {
  const IntegerSteps& integers = integer_steps(micro, kinds.integer);
  const auto floats = [&](int k) { return reinterpret_cast<const float*>(args[k]); };
  const auto bools = [&](int k) { return reinterpret_cast<const std::uint8_t*>(args[k]); };
  if (step.op == ExprOp::kWhere) {
    if (step.gives == 'f') return micro.where(bools(0), floats(1), floats(2), reinterpret_cast<float*>(y), n);
    if (step.gives == 'i') return integers.choose(bools(0), args[1], args[2], y, n);
    return micro.choose_bools(bools(0), bools(1), bools(2), reinterpret_cast<std::uint8_t*>(y), n);
  }
  if (step.op == ExprOp::kCast) return run_cast(micro, integers, step, args[0], y, n);
  if (step.takes == 'f')
    return run_float_step(micro, kinds.half, step, floats(0), floats(1), reinterpret_cast<float*>(y), n);
  if (step.takes == 'b')
    return micro.bools(step.op, bools(0), bools(1), reinterpret_cast<std::uint8_t*>(y), n);
  if (step.gives == 'b')
    return integers.compare(step.op, args[0], args[1], reinterpret_cast<std::uint8_t*>(y), n);
  if (divides(step.op) && integers.any_zero(args[1], n)) refuse_zeros();
  integers.compute(step.op, args[0], args[1], y, n);
}

}  // namespace npu::cpu
