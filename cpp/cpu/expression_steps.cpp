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
                    std::byte* y, Int n) {
  if (step.gives == 'f') {
    auto* out = reinterpret_cast<float*>(y);
    const bool two = kExprOps[static_cast<int>(step.op)].takes.size() == 2;
    return two ? micro.binary(step.op, a, b, out, n) : micro.unary(step.op, a, out, n);
  }
  auto* out = reinterpret_cast<std::uint8_t*>(y);
  micro.compare(step.op, a, b, out, n);
}

}  // namespace

void run_step(const Micro& micro, const Expression::Step& step, const std::byte* a, const std::byte* b,
              const std::byte* c, std::byte* y, std::int64_t n) {
  const auto *af = reinterpret_cast<const float*>(a), *bf = reinterpret_cast<const float*>(b);
  const auto *ai = reinterpret_cast<const Int*>(a), *bi = reinterpret_cast<const Int*>(b);
  const auto *ab = reinterpret_cast<const std::uint8_t*>(a), *bb = reinterpret_cast<const std::uint8_t*>(b);
  if (step.op == ExprOp::kWhere) {
    if (step.gives == 'f')
      return micro.where(ab, bf, reinterpret_cast<const float*>(c), reinterpret_cast<float*>(y), n);
    if (step.gives == 'i')
      return micro.choose_integers(ab, bi, reinterpret_cast<const Int*>(c), reinterpret_cast<Int*>(y), n);
    return micro.choose_bools(ab, bb, reinterpret_cast<const std::uint8_t*>(c),
                              reinterpret_cast<std::uint8_t*>(y), n);
  }
  if (step.op == ExprOp::kCast) return run_cast(micro, step, a, y, n);
  if (step.takes == 'f') return run_float_step(micro, step, af, bf, y, n);
  if (step.takes == 'b') return micro.bools(step.op, ab, bb, reinterpret_cast<std::uint8_t*>(y), n);
  if (step.gives == 'b')
    return micro.compare_integers(step.op, ai, bi, reinterpret_cast<std::uint8_t*>(y), n);
  if (divides(step.op)) refuse_zeros(bi, n);
  micro.integers(step.op, ai, bi, reinterpret_cast<Int*>(y), n);
}

}  // namespace npu::cpu
