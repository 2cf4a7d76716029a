#include "cpu/micro/wide.h"

#include <math.h>

#include "cpu/micro/wide_functions.h"

namespace npu::cpu::NPU_ISA {

namespace {

template <class F>
inline void each_wide(const float* x, float* y, std::int64_t n, F f) {
  for (std::int64_t i = 0; i < n; ++i) y[i] = static_cast<float>(f(static_cast<double>(x[i])));
}
template <class F>
inline void each_wide(const float* a, const float* b, float* y, std::int64_t n, F f) {
  for (std::int64_t i = 0; i < n; ++i)
    y[i] = static_cast<float>(f(static_cast<double>(a[i]), static_cast<double>(b[i])));
}

void tangents(const float* x, float* y, std::int64_t n) {
  constexpr float kLargestAngle = 1e6f;  // what a reduction in two parts is good for
  float largest = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const float a = __builtin_fabsf(x[i]);
    largest = a <= kLargestAngle ? largest : kLargestAngle + 1;
  }
  each_wide(x, y, n, [](double v) { return wide_tan(v); });
  if (largest <= kLargestAngle) return;
  for (std::int64_t i = 0; i < n; ++i) {
    if (!(__builtin_fabsf(x[i]) <= kLargestAngle)) y[i] = tanf(x[i]);
  }
}

void remainders(const float* a, const float* b, float* y, std::int64_t n) {
  int far = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    far |= !(__builtin_fabs(static_cast<double>(a[i])) <
             kLargestQuotient * __builtin_fabs(static_cast<double>(b[i])));
    far |= b[i] - b[i] != 0.0f;
  }
  if (far == 0) return each_wide(a, b, y, n, [](double u, double v) { return wide_fmod(u, v); });
  for (std::int64_t i = 0; i < n; ++i) y[i] = fmodf(a[i], b[i]);
}

}  // namespace

bool is_wide(ExprOp op) {
  switch (op) {
    case ExprOp::kExpm1:
    case ExprOp::kLog2:
    case ExprOp::kLog10:
    case ExprOp::kLog1p:
    case ExprOp::kTan:
    case ExprOp::kAsin:
    case ExprOp::kAcos:
    case ExprOp::kAtan:
    case ExprOp::kSinh:
    case ExprOp::kCosh:
    case ExprOp::kAsinh:
    case ExprOp::kAcosh:
    case ExprOp::kAtanh:
    case ExprOp::kErfc:
      return true;
    default:
      return false;
  }
}

void wide_unary(ExprOp op, const float* x, float* y, std::int64_t n) {
  switch (op) {
    case ExprOp::kExpm1:
      return each_wide(x, y, n, [](double v) { return wide_expm1(v); });
    case ExprOp::kLog2:
      return each_wide(x, y, n, [](double v) { return wide_log2(v); });
    case ExprOp::kLog10:
      return each_wide(x, y, n, [](double v) { return wide_log(v) * 0.434294481903251827651; });
    case ExprOp::kLog1p:
      return each_wide(x, y, n, [](double v) { return wide_log1p(v); });
    case ExprOp::kTan:
      return tangents(x, y, n);
    case ExprOp::kAsin:
      return each_wide(x, y, n, [](double v) { return wide_asin(v); });
    case ExprOp::kAcos:
      return each_wide(x, y, n, [](double v) { return wide_acos(v); });
    case ExprOp::kAtan:
      return each_wide(x, y, n, [](double v) { return wide_atan(v); });
    case ExprOp::kSinh:
      return each_wide(x, y, n, [](double v) { return wide_sinh(v); });
    case ExprOp::kCosh:
      return each_wide(x, y, n, [](double v) { return wide_cosh(v); });
    case ExprOp::kAsinh:
      return each_wide(x, y, n, [](double v) { return wide_asinh(v); });
    case ExprOp::kAcosh:
      return each_wide(x, y, n, [](double v) { return wide_acosh(v); });
    case ExprOp::kAtanh:
      return each_wide(x, y, n, [](double v) { return wide_atanh(v); });
    default:
      return each_wide(x, y, n, [](double v) { return wide_erfc(v); });
  }
}

void wide_binary(ExprOp op, const float* a, const float* b, float* y, std::int64_t n) {
  switch (op) {
    case ExprOp::kPow:
      return each_wide(a, b, y, n, [](double u, double v) { return wide_pow(u, v); });
    case ExprOp::kFmod:
      return remainders(a, b, y, n);
    case ExprOp::kAtan2:
      return each_wide(a, b, y, n, [](double u, double v) { return wide_atan2(u, v); });
    default:
      return each_wide(a, b, y, n, [](double u, double v) { return wide_hypot(u, v); });
  }
}

}  // namespace npu::cpu::NPU_ISA
