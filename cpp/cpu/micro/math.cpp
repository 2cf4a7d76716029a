// The steps of expressions.
#include <math.h>

#include "cpu/micro/functions.h"
#include "cpu/micro/table.h"
#include "cpu/micro/wide.h"

namespace npu::cpu::NPU_ISA {

namespace {

// Plain loops that compilers turn into vector square roots.
void square_roots(const float* x, float* y, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) y[i] = __builtin_sqrtf(x[i]);
}

constexpr std::int64_t kPart = 64;
constexpr float kLargestAngle = 1e6f;  // what the two-part reduction below is good for

// x - k * pi / 2 in [-pi/4, pi/4], in double so that little is lost; k is 4 bits of the quotient.
void reduce_angles(const float* x, float* r, std::int32_t* k, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    const float a = __builtin_fabsf(x[i]) <= kLargestAngle ? x[i] : 0.0f;
    const double v = static_cast<double>(a), q = (v * 0.63661977236758134308 + 0x1.8p52) - 0x1.8p52;
    r[i] = static_cast<float>((v - q * 1.57079632673412561417) - q * 6.07710050650619224932e-11);
    k[i] = static_cast<std::int32_t>(q);
  }
}

// `quarter` is 0 for the sine and 1 for the cosine.
template <int quarter>
void sines(const float* x, float* y, std::int64_t n) {
  float r[kPart], from[kPart];
  std::int32_t k[kPart];
  for (std::int64_t begin = 0; begin < n; begin += kPart) {
    const std::int64_t m = n - begin < kPart ? n - begin : kPart;
    for (std::int64_t i = 0; i < kPart; ++i) from[i] = i < m ? x[begin + i] : 0.0f;
    reduce_angles(from, r, k, kPart);
    bool odd_ones = false;
    for (std::int64_t i = 0; i < kPart; i += kLanes) {
      I32 q;
      __builtin_memcpy(&q, k + i, sizeof q);
      q += quarter;
      const F32 v = load(r + i), s = (q & 1) != 0 ? cos_kernel(v) : sin_kernel(v);
      store(r + i, (q & 2) != 0 ? -s : s);
    }
    for (std::int64_t i = 0; i < m; ++i) {
      y[begin + i] = r[i];
      odd_ones |= !(__builtin_fabsf(from[i]) <= kLargestAngle);
    }
    if (!odd_ones) continue;
    for (std::int64_t i = 0; i < m; ++i) {
      if (!(__builtin_fabsf(from[i]) <= kLargestAngle))
        y[begin + i] = quarter == 0 ? sinf(from[i]) : cosf(from[i]);
    }
  }
}

void arithmetic(ExprOp op, const float* x, float* y, std::int64_t n) {
  switch (op) {
    case ExprOp::kNeg:
      return each(x, y, n, [](F32 v) { return -v; });
    case ExprOp::kAbs:
      return each(x, y, n, [](F32 v) { return absolute(v); });
    case ExprOp::kSign:
      return each(x, y, n, [](F32 v) { return v > 0.0f ? all(1.0f) : v < 0.0f ? all(-1.0f) : all(0.0f); });
    case ExprOp::kRelu:
      return each(x, y, n, [](F32 v) { return v < 0.0f ? all(0.0f) : v; });
    case ExprOp::kSqrt:
      return square_roots(x, y, n);
    case ExprOp::kRsqrt:
      square_roots(x, y, n);
      return each(y, y, n, [](F32 v) { return 1.0f / v; });
    case ExprOp::kReciprocal:
      return each(x, y, n, [](F32 v) { return 1.0f / v; });
    case ExprOp::kFloor:
      return each(x, y, n, [](F32 v) { return floor_of(v); });
    case ExprOp::kCeil:
      return each(x, y, n, [](F32 v) { return ceil_of(v); });
    case ExprOp::kRound:
      return each(x, y, n, [](F32 v) { return round_even(v); });
    default:
      return each(x, y, n, [](F32 v) { return trunc_of(v); });
  }
}

// Calls use(function) with one of vectors; false where there is none.
template <class Use>
bool with_vectors(ExprOp op, Use use) {
  switch (op) {
    case ExprOp::kExp:
      use([](F32 v) { return exp_of(v); });
      return true;
    case ExprOp::kExp2:
      use([](F32 v) { return exp2_of(v); });
      return true;
    case ExprOp::kLog:
      use([](F32 v) { return log_of(v); });
      return true;
    case ExprOp::kTanh:
      use([](F32 v) { return tanh_of(v); });
      return true;
    case ExprOp::kErf:
      use([](F32 v) { return erf_of(v); });
      return true;
    case ExprOp::kSigmoid:
      use([](F32 v) { return sigmoid_of(v); });
      return true;
    case ExprOp::kSilu:
      use([](F32 v) { return silu_of(v); });
      return true;
    case ExprOp::kGelu:
      use([](F32 v) { return gelu_of(v); });
      return true;
    case ExprOp::kGeluTanh:
      use([](F32 v) { return gelu_tanh_of(v); });
      return true;
    case ExprOp::kSoftplus:
      use([](F32 v) { return softplus_of(v); });
      return true;
    case ExprOp::kMish:
      use([](F32 v) { return mish_of(v); });
      return true;
    case ExprOp::kHardswish:
      use([](F32 v) { return v * min_of(max_of(v + 3.0f, all(0.0f)), all(6.0f)) * (1.0f / 6.0f); });
      return true;
    case ExprOp::kHardsigmoid:
      use([](F32 v) { return min_of(max_of(v + 3.0f, all(0.0f)), all(6.0f)) * (1.0f / 6.0f); });
      return true;
    default:
      return false;
  }
}

void unary(ExprOp op, const float* x, float* y, std::int64_t n) {
  if (op == ExprOp::kSin) return sines<0>(x, y, n);
  if (op == ExprOp::kCos) return sines<1>(x, y, n);
  if (with_vectors(op, [&](auto f) { each(x, y, n, f); })) return;
  if (is_wide(op)) return wide_unary(op, x, y, n);
  arithmetic(op, x, y, n);
}

void unary_rows(ExprOp op, float* y, std::int64_t step, std::int64_t rows, std::int64_t n) {
  const auto all_rows = [&](auto f) {
    for (std::int64_t i = 0; i < rows; ++i) each(y + i * step, y + i * step, n, f);
  };
  if (with_vectors(op, all_rows)) return;
  for (std::int64_t i = 0; i < rows; ++i) unary(op, y + i * step, y + i * step, n);
}

void limit(float* y, const Limits& limits, std::int64_t n) {
  each(y, y, n, [&](F32 v) { return within(v, limits.low, limits.high); });
}

void binary(ExprOp op, const float* a, const float* b, float* y, std::int64_t n) {
  switch (op) {
    case ExprOp::kAdd:
      return each(a, b, y, n, [](F32 u, F32 v) { return u + v; });
    case ExprOp::kSub:
      return each(a, b, y, n, [](F32 u, F32 v) { return u - v; });
    case ExprOp::kMul:
      return each(a, b, y, n, [](F32 u, F32 v) { return u * v; });
    case ExprOp::kDiv:
      return each(a, b, y, n, [](F32 u, F32 v) { return u / v; });
    case ExprOp::kMax:
      return each(a, b, y, n, [](F32 u, F32 v) { return max_of(u, v); });
    case ExprOp::kMin:
      return each(a, b, y, n, [](F32 u, F32 v) { return min_of(u, v); });
    case ExprOp::kCopysign:
      return each(a, b, y, n, [](F32 u, F32 v) { return with_sign_of(u, v); });
    default:
      return wide_binary(op, a, b, y, n);
  }
}

// Lanes whose byte is not 0.
#if defined(__AVX512F__)
inline F32 chosen(const std::uint8_t* c, F32 a, F32 b) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(c));
  return _mm512_mask_blend_ps(_mm_test_epi8_mask(bytes, bytes), b, a);
}
#else
inline F32 chosen(const std::uint8_t* c, F32 a, F32 b) {
  I32 wide;
  for (int i = 0; i < kLanes; ++i) wide[i] = c[i];
  return wide != 0 ? a : b;
}
#endif

void where(const std::uint8_t* c, const float* a, const float* b, float* y, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(y + i, chosen(c + i, load(a + i), load(b + i)));
  for (; i < n; ++i) y[i] = c[i] != 0 ? a[i] : b[i];
}

}  // namespace

void fill_math(Micro& micro) {
  micro.unary = unary;
  micro.unary_rows = unary_rows;
  micro.limit = limit;
  micro.binary = binary;
  micro.where = where;
}

}  // namespace npu::cpu::NPU_ISA
