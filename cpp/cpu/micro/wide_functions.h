// Elementary functions in double, to about 1e-11, so that rounding to float32 is all that is lost. They are
// free of branches: loops over them become vector instructions.
#pragma once

#include <cstdint>

namespace npu::cpu::NPU_ISA {

// In an unnamed namespace, so that no object file of another instruction set can use what is compiled here.
namespace {

#define NPU_INLINE inline __attribute__((always_inline))

constexpr double kInfinite = __builtin_inf();
constexpr double kLn2 = 0.693147180559945309417;
constexpr double kHalfPi = 1.57079632679489661923;
constexpr double kWhole = 0x1.8p52;  // added to a number and taken away again, it leaves a whole number

NPU_INLINE std::uint64_t bits_of(double x) {
  std::uint64_t u;
  __builtin_memcpy(&u, &x, sizeof u);
  return u;
}
NPU_INLINE double double_of(std::uint64_t u) {
  double x;
  __builtin_memcpy(&x, &u, sizeof x);
  return x;
}

NPU_INLINE double positive(double x) { return double_of(bits_of(x) & 0x7fffffffffffffffu); }
NPU_INLINE double signed_as(double magnitude, double x) {
  return double_of((bits_of(magnitude) & 0x7fffffffffffffffu) | (bits_of(x) & 0x8000000000000000u));
}
NPU_INLINE double nearest_whole(double x) { return (x + kWhole) - kWhole; }  // |x| < 2^51
NPU_INLINE double down(double x) {                                           // of |x| < 2^51
  const double r = nearest_whole(x);
  return r > x ? r - 1.0 : r;
}

// exp(r) * 2^n, where `shifted` is n + kWhole.
NPU_INLINE double scaled_exp(double r, double shifted) {
  double p = 2.7557319223985890653e-7 + r * 2.5052108385441718775e-8;
  p = 2.7557319223985892511e-6 + r * p;
  p = 2.4801587301587301566e-5 + r * p;
  p = 1.9841269841269841253e-4 + r * p;
  p = 1.3888888888888889419e-3 + r * p;
  p = 8.3333333333333332177e-3 + r * p;
  p = 4.1666666666666664354e-2 + r * p;
  p = 1.6666666666666665741e-1 + r * p;
  p = 0.5 + r * p;
  p = 1.0 + r * (1.0 + r * p);
  return p * double_of((bits_of(shifted) + 1023u) << 52);
}

// Beyond 700 and 1000 they stay what they are there, which as a float32 is 0 or infinite.
NPU_INLINE double wide_exp(double x) {
  const double low = x < -700.0 ? -700.0 : x, v = low > 700.0 ? 700.0 : low;
  const double shifted = v * 1.44269504088896340736 + kWhole, n = shifted - kWhole;
  return scaled_exp((v - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10, shifted);
}
NPU_INLINE double wide_exp2(double x) {  // exact for whole numbers
  const double low = x < -1000.0 ? -1000.0 : x, v = low > 1000.0 ? 1000.0 : low;
  const double shifted = v + kWhole;
  return scaled_exp((v - (shifted - kWhole)) * kLn2, shifted);
}

// x = 2^e * m with m near 1: e * of_two + log(m) * scale. For any float32, denormal ones included: as doubles
// these are normal.
NPU_INLINE double scaled_log(double x, double of_two, double scale) {
  constexpr std::uint64_t kRootHalf = 0x3fe6a09e667f3bcdu;
  const std::uint64_t above = bits_of(x) - kRootHalf + (std::uint64_t{1023} << 52);
  const double e = double_of((above >> 52) | 0x4330000000000000u) - (0x1p52 + 1023.0);
  const double m = double_of((above & 0x000fffffffffffffu) + kRootHalf);
  const double t = (m - 1.0) / (m + 1.0), s = t * t;
  double p = 1.0 / 13.0 + s * (1.0 / 15.0);
  p = 1.0 / 11.0 + s * p;
  p = 1.0 / 9.0 + s * p;
  p = 1.0 / 7.0 + s * p;
  p = 1.0 / 5.0 + s * p;
  p = 1.0 / 3.0 + s * p;
  const double r = e * of_two + 2.0 * scale * (t + t * s * p);
  const double finite = x == kInfinite ? x : r;
  const double above_zero = x > 0.0 ? finite : x == 0.0 ? -kInfinite : __builtin_nan("");
  return x != x ? x : above_zero;
}
NPU_INLINE double wide_log(double x) { return scaled_log(x, kLn2, 1.0); }
NPU_INLINE double wide_log2(double x) { return scaled_log(x, 1.0, 1.0 / kLn2); }  // exact for powers of two

NPU_INLINE double wide_log1p(double x) {
  const double near = x * (1.0 - x * (0.5 - x * (1.0 / 3.0)));
  return positive(x) < 1e-4 ? near : wide_log(1.0 + x);
}

NPU_INLINE double wide_expm1(double x) {
  const double near = x * (1.0 + x * (0.5 + x * (1.0 / 6.0 + x * (1.0 / 24.0))));
  return positive(x) < 1e-3 ? near : wide_exp(x) - 1.0;
}

NPU_INLINE double wide_sinh(double x) {
  const double near = x * (1.0 + x * x * (1.0 / 6.0)), e = wide_exp(x);
  return positive(x) < 1e-3 ? near : 0.5 * (e - 1.0 / e);
}
NPU_INLINE double wide_cosh(double x) {
  const double e = wide_exp(x);
  return 0.5 * (e + 1.0 / e);
}

NPU_INLINE double wide_atanh(double x) {
  const double near = x * (1.0 + x * x * (1.0 / 3.0));
  return positive(x) < 1e-3 ? near : 0.5 * wide_log((1.0 + x) / (1.0 - x));
}
NPU_INLINE double wide_asinh(double x) {
  const double a = positive(x), near = x * (1.0 - x * x * (1.0 / 6.0));
  return a < 1e-3 ? near : signed_as(wide_log(a + __builtin_sqrt(a * a + 1.0)), x);
}
NPU_INLINE double wide_acosh(double x) {
  const double r = wide_log(x + __builtin_sqrt((x - 1.0) * (x + 1.0)));
  return x < 1.0 ? __builtin_nan("") : r;
}

// Of t in [0, 1].
NPU_INLINE double atan_of_part(double t) {
  constexpr double kTanEighth = 0.414213562373095048802, kQuarterPi = 0.78539816339744830962;
  const bool far = t > kTanEighth;
  const double u = far ? (t - 1.0) / (t + 1.0) : t, s = u * u;
  double p = 1.0 / 21.0 - s * (1.0 / 23.0);
  p = 1.0 / 19.0 - s * p;
  p = 1.0 / 17.0 - s * p;
  p = 1.0 / 15.0 - s * p;
  p = 1.0 / 13.0 - s * p;
  p = 1.0 / 11.0 - s * p;
  p = 1.0 / 9.0 - s * p;
  p = 1.0 / 7.0 - s * p;
  p = 1.0 / 5.0 - s * p;
  p = 1.0 / 3.0 - s * p;
  const double r = u - u * s * p;
  return far ? kQuarterPi + r : r;
}
NPU_INLINE double wide_atan(double x) {
  const double a = positive(x), r = atan_of_part(a > 1.0 ? 1.0 / a : a);
  return signed_as(a > 1.0 ? kHalfPi - r : r, x);
}
NPU_INLINE double wide_atan2(double y, double x) {
  const double a = positive(x), b = positive(y), small = a < b ? a : b, large = a < b ? b : a;
  const double ratio = large == 0.0 ? 0.0 : small == large ? 1.0 : small / large;
  const double part = atan_of_part(ratio), first = b > a ? kHalfPi - part : part;
  const bool left = (bits_of(x) >> 63) != 0;
  const double r = signed_as(left ? 2.0 * kHalfPi - first : first, y);
  return ((x != x) | (y != y)) ? x + y : r;
}
NPU_INLINE double wide_asin(double x) {
  const double r = wide_atan(x / __builtin_sqrt((1.0 - x) * (1.0 + x)));
  return positive(x) <= 1.0 ? r : __builtin_nan("");
}
NPU_INLINE double wide_acos(double x) {
  const double r = wide_atan2(__builtin_sqrt((1.0 - x) * (1.0 + x)), x);
  return positive(x) <= 1.0 ? r : __builtin_nan("");
}

// For |x| <= 1e6.
NPU_INLINE double wide_tan(double x) {
  const double shifted = x * 0.63661977236758134308 + kWhole, q = shifted - kWhole;
  const double r = (x - q * 1.57079632673412561417) - q * 6.07710050650619224932e-11, s = r * r;
  double a = -2.5052108385441718775e-8 + s * 1.6059043836821614599e-10;
  a = 2.7557319223985890653e-6 + s * a;
  a = -1.9841269841269841253e-4 + s * a;
  a = 8.3333333333333332177e-3 + s * a;
  a = -1.6666666666666665741e-1 + s * a;
  double b = -2.7557319223985888276e-7 + s * 2.0876756987868098979e-9;
  b = 2.4801587301587301566e-5 + s * b;
  b = -1.3888888888888889419e-3 + s * b;
  b = 4.1666666666666664354e-2 + s * b;
  b = -0.5 + s * b;
  const double sine = r * (1.0 + s * a), cosine = 1.0 + s * b;
  const bool odd = (bits_of(shifted) & 1) != 0;
  return (odd ? -cosine : sine) / (odd ? sine : cosine);
}

// 1 - erf(x): a fraction of a polynomial, so that its tail is as exact as the rest.
NPU_INLINE double wide_erfc(double x) {
  const double a = positive(x), t = 1.0 / (1.0 + 0.5 * a);
  double p = -0.82215223 + t * 0.17087277;
  p = 1.48851587 + t * p;
  p = -1.13520398 + t * p;
  p = 0.27886807 + t * p;
  p = -0.18628806 + t * p;
  p = 0.09678418 + t * p;
  p = 0.37409196 + t * p;
  p = 1.00002368 + t * p;
  const double r = t * wide_exp(-a * a - 1.26551223 + t * p);
  return x < 0.0 ? 2.0 - r : r;
}

NPU_INLINE double wide_hypot(double x, double y) {
  const double r = __builtin_sqrt(x * x + y * y);
  const bool x_infinite = positive(x) == kInfinite, y_infinite = positive(y) == kInfinite;
  return (x_infinite | y_infinite) ? kInfinite : r;
}

NPU_INLINE double wide_pow(double base, double exponent) {
  const double a = positive(base), e = positive(exponent);
  const double capped = e < 0x1p40 ? exponent : signed_as(0x1p40, exponent);  // even, as all so large
  const double magnitude = wide_exp2(capped * wide_log2(a));
  const double whole = down(capped), half = 0.5 * capped;
  const bool odd = (whole == capped) & (down(half) != half);
  const bool negative = (bits_of(base) >> 63) != 0;
  const double with_sign = (negative & odd) ? -magnitude : magnitude;
  const double real = ((base < 0.0) & (whole != capped) & (a != kInfinite)) ? __builtin_nan("") : with_sign;
  const double at_one = ((a == 1.0) & (e == kInfinite)) ? 1.0 : real;
  const double number = ((base != base) | (exponent != exponent)) ? base + exponent : at_one;
  return ((exponent == 0.0) | (base == 1.0)) ? 1.0 : number;
}

// Of quotients below 2^28, whose products are exact; the quotient may have been rounded up, or down.
constexpr double kLargestQuotient = 0x1p28;

NPU_INLINE double wide_fmod(double a, double b) {
  const double x = positive(a), y = positive(b);
  const double r = x - down(x / y) * y, raised = r < 0.0 ? r + y : r;
  return signed_as(raised >= y ? raised - y : raised, a);
}

#undef NPU_INLINE

}  // namespace

}  // namespace npu::cpu::NPU_ISA
