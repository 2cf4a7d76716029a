// MSL's types: conversions and rounding, vectors, packed vectors, and the functions of numbers.
#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels.h"

using namespace npu::test;

namespace {

const char* const kSource = R"(
kernel void to_bfloat(device ushort* y [[buffer(0)]], device const uint* x [[buffer(1)]],
                      uint i [[thread_position_in_grid]]) {
  y[i] = as_type<ushort>(bfloat(as_type<float>(x[i])));
}
kernel void from_bfloat(device uint* y [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  y[i] = as_type<uint>(float(as_type<bfloat>(ushort(i))));
}
kernel void to_half(device ushort* y [[buffer(0)]], device const uint* x [[buffer(1)]],
                    uint i [[thread_position_in_grid]]) {
  y[i] = as_type<ushort>(half(as_type<float>(x[i])));
}
kernel void arithmetic(device float* y [[buffer(0)]]) {
  bfloat b = bfloat(1.0f), tiny = bfloat(0.00390625f);
  half h = 1.0h, small = half(0.00048828125f);
  y[0] = float(b + tiny);          // rounds to even: 1
  y[1] = float(b + tiny + tiny);   // and again
  y[2] = float(h + small);         // likewise
  y[3] = b + 0.00390625f;          // with a float it is float
  b += tiny * bfloat(3);
  y[4] = float(b);
  y[5] = float(-b);
  y[6] = b > bfloat(1) ? 1.0 : 0.0;
  y[7] = sizeof(bfloat) + sizeof(half) + sizeof(1.0) + sizeof(1.0h);
}
kernel void vectors(device float* y [[buffer(0)]]) {
  float4 v = float4(1, float2(2, 3), 4);
  v.xy = v.yx;                      // 2 1 3 4
  v.w += 1;
  y[0] = v.x * 1000 + v.y * 100 + v.z * 10 + v.w;
  int4 k = int4(v * 1.5f);          // 3 1 4 7
  y[1] = k.x * 1000 + k.y * 100 + k[2] * 10 + k[3];
  y[2] = any(v > 4.5f) + 2 * all(v > 0.0f) + 4 * all(v == v.xyzw);
  y[3] = dot(v, float4(1)) + length(float2(3, 4));
  half4 h = half4(v);
  h *= 2;
  y[4] = float(h.z + h.w);
  bfloat2 b = bfloat2(1.5f, 2.5f) + bfloat2(1);
  y[5] = float(b.x) + float(b.y);
  float4 s = select(v, float4(9), v > 2.0f);
  y[6] = s.x * 1000 + s.y * 100 + s.z * 10 + s.w;
  bool2 flags = bool2(true, false);
  y[7] = flags.x && !flags.y ? sizeof(bool4) : 0;
  y[8] = sizeof(float3) + sizeof(packed_float3) + sizeof(half3) + sizeof(packed_half3);
  packed_float3 p = packed_float3(1, 2, 3);
  float3 q = p * 2.0f;
  p = q + p;
  y[9] = p.x + p.y * 10 + p.z * 100;
  float4 m = clamp(max(v, 2.0f), float4(2.5f), float4(4));
  y[10] = m.x + m.y + m.z + m.w;
  uint2 u = uint2(7, 9) >> 1;
  y[11] = u.x * 10 + u.y + ((uint2(6) & uint2(3)) | uint2(8)).x * 100;
  y[12] = cross(float3(1, 0, 0), float3(0, 1, 0)).z + float3(1, 2, 3).zyx.x;
}
kernel void functions(device float* y [[buffer(0)]], device const float* x [[buffer(1)]],
                      uint i [[thread_position_in_grid]]) {
  float v = x[i];
  device float* z = y + i * 20;
  z[0] = exp(v), z[1] = precise::log(abs(v)), z[2] = sin(v), z[3] = tanh(v), z[4] = rsqrt(abs(v));
  z[5] = floor(v), z[6] = rint(v), z[7] = round(v), z[8] = trunc(v), z[9] = fract(v);
  z[10] = fmod(v, 2.0f), z[11] = pow(abs(v), 1.5f), z[12] = copysign(3.0f, v), z[13] = sign(v);
  z[14] = fma(v, v, v), z[15] = mix(v, 2.0f, 0.25f), z[16] = clamp(v, -1.0f, 1.0f), z[17] = min(v, 0.5f);
  z[18] = fast::exp2(v), z[19] = ldexp(v, 3);
}
kernel void nans(device float* y [[buffer(0)]]) {
  y[0] = max(NAN, 1.0f), y[1] = min(2.0f, NAN), y[2] = isnan(NAN) + 2 * isinf(INFINITY) + 4 * isfinite(1.0f);
  y[3] = numeric_limits<half>::max(), y[4] = float(numeric_limits<bfloat>::epsilon());
  y[5] = numeric_limits<int>::lowest(), y[6] = numeric_limits<uchar>::max(), y[7] = M_PI_F;
}
kernel void integers(device uint* y [[buffer(0)]]) {
  y[0] = popcount(0xf0f0u), y[1] = clz(1u), y[2] = ctz(8u), y[3] = mulhi(0x80000000u, 6u);
  y[4] = uint(mulhi(int(-4), 1 << 30)), y[5] = mad24(3u, 4u, 5u), y[6] = rotate(0x80000001u, 4u);
  y[7] = reverse_bits(1u), y[8] = addsat(0xffffffffu, 2u), y[9] = abs(-5), y[10] = absdiff(3, 9);
  y[11] = clamp(9, 1, 5), y[12] = uint(as_type<int>(1.0f)), y[13] = uint(numeric_limits<long>::max() >> 40);
  y[14] = is_same_v<make_unsigned_t<short>, ushort> && is_integral_v<long> && is_floating_point_v<bfloat>;
  y[15] = uint(mulhi(ulong(1) << 63, ulong(6))), y[16] = clz(ushort(1)), y[17] = uint(subsat(uchar(3), uchar(5)));
}
)";

Kernels& kernels() {
  static Kernels all(kSource);
  return all;
}

std::uint32_t bits_of(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return bits;
}

// Rounded by arithmetic in double: the nearest of both neighbours, the even one of two.
std::uint16_t nearest_bfloat(std::uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, 4);
  if (std::isnan(x)) return static_cast<std::uint16_t>((bits >> 16) | 0x40);
  if (std::isinf(x)) return static_cast<std::uint16_t>(bits >> 16);
  auto value = [](std::uint32_t b) {
    if ((b & 0x7fff) == 0x7f80) return b & 0x8000 ? -0x1p128 : 0x1p128;
    const std::uint32_t wide = b << 16;
    float f;
    std::memcpy(&f, &wide, 4);
    return static_cast<double>(f);
  };
  const std::uint32_t low = bits >> 16, high = low + 1;
  const double below = std::abs(x - value(low)), above = std::abs(value(high) - x);
  if (below != above) return static_cast<std::uint16_t>(below < above ? low : high);
  return static_cast<std::uint16_t>(low % 2 ? high : low);
}

std::vector<std::uint32_t> interesting_floats() {
  std::vector<std::uint32_t> all;
  for (std::uint32_t top = 0; top < 0x10000; top += 37)
    for (std::uint32_t low : {0u, 1u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) all.push_back(top << 16 | low);
  for (std::uint32_t top : {0x7f80u, 0xff80u, 0x7f7fu, 0xff7fu, 0u, 0x8000u, 0x7fffu, 0x7fc0u})
    for (std::uint32_t low : {0u, 1u, 0x8000u, 0xffffu}) all.push_back(top << 16 | low);
  return all;
}

}  // namespace

TEST(softmetal_types, bfloat_rounds_to_the_nearest_even) {
  const auto x = interesting_floats();
  const auto n = static_cast<unsigned>(x.size());
  expect<std::uint16_t>(
      kernels(), "to_bfloat", {{n, 1, 1}, {64, 1, 1}, {}}, n,
      [&](std::size_t i) { return nearest_bfloat(x[i]); }, x);
  expect<std::uint32_t>(kernels(), "from_bfloat", groups(256, 256), 65536,
                        [](std::size_t i) { return static_cast<std::uint32_t>(i << 16); });
}

TEST(softmetal_types, half_rounds_to_the_nearest_even) {
  const std::vector<float> values{1.0f,
                                  1.0f + 0x1p-11f,
                                  1.0f + 0x1p-11f + 0x1p-20f,
                                  1.0f + 3 * 0x1p-11f,
                                  65504.0f,
                                  65519.0f,
                                  65520.0f,
                                  0x1p-25f,
                                  0x1.8p-25f,
                                  0x1p-24f,
                                  -0.0f,
                                  1e-30f,
                                  -INFINITY,
                                  3.14159f};
  const std::vector<std::uint16_t> wanted{0x3c00, 0x3c00, 0x3c01, 0x3c02, 0x7bff, 0x7bff, 0x7c00,
                                          0x0000, 0x0001, 0x0001, 0x8000, 0x0000, 0xfc00, 0x4248};
  std::vector<std::uint32_t> x;
  for (float value : values) x.push_back(bits_of(value));
  expect<std::uint16_t>(kernels(), "to_half", threads(14), 14, [&](std::size_t i) { return wanted[i]; }, x);
}

TEST(softmetal_types, sixteen_bit_arithmetic_rounds_every_result) {
  const float wanted[] = {1, 1, 1, 1.00390625f, 1.015625f, -1.015625f, 1, 10};
  expect<float>(kernels(), "arithmetic", threads(1), 8, [&](std::size_t i) { return wanted[i]; });
}

TEST(softmetal_types, vectors) {
  const float wanted[] = {2135, 3147, 7, 16, 16, 6, 2199, 4, 16 + 12 + 8 + 6, 963, 2.5f + 2.5f + 3 + 4,
                          1034, 4};
  expect<float>(kernels(), "vectors", threads(1), 13, [&](std::size_t i) { return wanted[i]; });
}

TEST(softmetal_types, functions_agree_with_the_hosts) {
  const std::vector<float> x{0.5f, -0.5f, 1.5f, 2.5f, -2.5f, 3.75f, -7.25f};
  for (Mode mode : {Mode::fast, Mode::checked}) {
    std::vector<float> y(x.size() * 20), in = x;
    CHECK_EQ(kernels().run(mode, "functions", threads(static_cast<unsigned>(x.size())), y, in), "");
    for (std::size_t i = 0; i < x.size(); ++i) {
      const float v = x[i], a = std::abs(v);
      const float wanted[] = {std::exp(v),
                              std::log(a),
                              std::sin(v),
                              std::tanh(v),
                              1 / std::sqrt(a),
                              std::floor(v),
                              std::rint(v),
                              std::round(v),
                              std::trunc(v),
                              v - std::floor(v),
                              std::fmod(v, 2.0f),
                              std::pow(a, 1.5f),
                              std::copysign(3.0f, v),
                              v < 0 ? -1.0f : 1.0f,
                              std::fma(v, v, v),
                              v + (2 - v) * 0.25f,
                              std::fmin(std::fmax(v, -1.0f), 1.0f),
                              std::fmin(v, 0.5f),
                              std::exp2(v),
                              std::ldexp(v, 3)};
      for (std::size_t k = 0; k < 20; ++k)
        if (std::abs(y[i * 20 + k] - wanted[k]) > 2e-6f * std::abs(wanted[k]))
          report_failure("functions", static_cast<int>(k),
                         std::to_string(v) + ": " + std::to_string(y[i * 20 + k]));
    }
  }
}

TEST(softmetal_types, limits_and_nans) {
  const float wanted[] = {1, 2, 7, 65504, 0.0078125f, -2147483648.0f, 255, 3.14159274f};
  expect<float>(kernels(), "nans", threads(1), 8, [&](std::size_t i) { return wanted[i]; });
}

TEST(softmetal_types, integers) {
  const std::uint32_t wanted[] = {8, 31, 3, 3,           0xffffffffu, 17, 0x18u, 0x80000000u, 0xffffffffu,
                                  5, 6,  5, 0x3f800000u, 0x7fffff,    1,  3,     15,          0};
  expect<std::uint32_t>(kernels(), "integers", threads(1), 18, [&](std::size_t i) { return wanted[i]; });
}
