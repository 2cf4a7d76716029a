// MSL's types: conversions and rounding, vectors, packed vectors, and the functions of numbers.
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>

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
kernel void to_integers(device long* y [[buffer(0)]], device const float* x [[buffer(1)]],
                        uint i [[thread_position_in_grid]]) {
  float v = x[i];
  half h = half(v);
  bfloat b = bfloat(v);
  device long* z = y + i * 12;
  z[0] = char(v), z[1] = uchar(v), z[2] = short(v), z[3] = ushort(v), z[4] = int(v), z[5] = uint(v);
  z[6] = long(v), z[7] = long(ulong(v) >> 1), z[8] = char(h), z[9] = int(b);
  short4 k = short4(float4(v));
  z[10] = k.w, z[11] = long(v > 0.0f ? uchar(h) : uchar(b));
}
kernel void integers_to_bfloat(device ushort* y [[buffer(0)]], device const long* x [[buffer(1)]],
                               uint i [[thread_position_in_grid]]) {
  y[3 * i] = as_type<ushort>(bfloat(x[i]));
  y[3 * i + 1] = as_type<ushort>(bfloat(int(x[i])));
  y[3 * i + 2] = as_type<ushort>(bfloat(ulong(x[i])));
}
kernel void halves_of_pi(device float* y [[buffer(0)]], device const float* x [[buffer(1)]],
                         uint i [[thread_position_in_grid]]) {
  y[2 * i] = sinpi(x[i]);
  y[2 * i + 1] = cospi(x[i]);
}
kernel void fractions(device float* y [[buffer(0)]], device ushort* z [[buffer(1)]]) {
  y[0] = fract(-1e-20f), y[1] = fract(-0.25f), y[2] = isnan(fract(NAN)), y[3] = isnan(fract(INFINITY));
  z[0] = as_type<ushort>(fract(half(-6e-8h))), z[1] = as_type<ushort>(fract(half(2.75h)));
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

TEST(softmetal_types, floats_saturate_as_integers_and_nan_is_zero) {
  const std::vector<float> x{0.0f,  1.75f,  -1.75f,   127.5f,    -128.9f, 300.0f, -300.0f, 40000.0f,
                             7e4f,  -7e4f,  2.2e9f,   -2.2e9f,   5e9f,    1e19f,  -1e19f,  2e19f,
                             3e38f, -3e38f, INFINITY, -INFINITY, NAN,     -NAN};
  const auto as = [](double v, double least, double most) {
    return std::isnan(v) ? 0.0 : std::trunc(std::fmin(std::fmax(v, least), most));
  };
  const auto wide = [&](double v) {
    return v >= 0x1p63 ? INT64_MAX : v < -0x1p63 ? INT64_MIN : static_cast<std::int64_t>(as(v, -1e19, 1e19));
  };
  const auto unsigned_half = [&](double v) {
    const double most = as(v, 0, 0x1p64);
    return most >= 0x1p64 ? INT64_MAX : static_cast<std::int64_t>(static_cast<std::uint64_t>(most) >> 1);
  };
  const auto rounded = [](float v) {  // as bfloat
    const std::uint32_t bits = static_cast<std::uint32_t>(nearest_bfloat(bits_of(v))) << 16;
    float y;
    std::memcpy(&y, &bits, 4);
    return static_cast<double>(y);
  };
  expect<std::int64_t>(
      kernels(), "to_integers", threads(static_cast<unsigned>(x.size())), x.size() * 12,
      [&](std::size_t at) -> std::int64_t {
        const float v = x[at / 12];
        const double half = v > 65519 ? INFINITY : v < -65519 ? -INFINITY : v;  // those above are exact
        switch (at % 12) {
          case 0:
            return static_cast<std::int64_t>(as(v, -128, 127));
          case 1:
            return static_cast<std::int64_t>(as(v, 0, 255));
          case 2:
          case 10:
            return static_cast<std::int64_t>(as(v, -32768, 32767));
          case 3:
            return static_cast<std::int64_t>(as(v, 0, 65535));
          case 4:
            return static_cast<std::int64_t>(as(v, INT32_MIN, INT32_MAX));
          case 5:
            return static_cast<std::int64_t>(as(v, 0, UINT32_MAX));
          case 6:
            return wide(v);
          case 7:
            return unsigned_half(v);
          case 8:
            return static_cast<std::int64_t>(as(half, -128, 127));
          case 9:
            return static_cast<std::int64_t>(as(rounded(v), INT32_MIN, INT32_MAX));
          default:
            return static_cast<std::int64_t>(as(v > 0 ? half : rounded(v), 0, 255));
        }
      },
      x);
}

TEST(softmetal_types, integers_are_rounded_once_to_bfloat) {
  const std::vector<std::int64_t> x{0,
                                    1,
                                    -1,
                                    255,
                                    257,
                                    33685505,
                                    -33685505,
                                    0x7fffffff,
                                    16842753,
                                    33554433,
                                    16908288,
                                    16908289,
                                    50462720,
                                    50462721,
                                    INT64_MAX,
                                    INT64_MIN,
                                    (std::int64_t{1} << 40) + (std::int64_t{1} << 32) + 1,
                                    0x4080000000000001};
  const auto nearest = [](long double v) {  // which has all bits of the integers
    int exponent;
    const long double fraction = std::frexp(v, &exponent);
    const auto y = static_cast<float>(std::ldexp(std::nearbyint(std::ldexp(fraction, 8)), exponent - 8));
    return static_cast<std::uint16_t>(bits_of(y) >> 16);
  };
  CHECK_EQ(nearest(33685505), 0x4c01);
  expect<std::uint16_t>(
      kernels(), "integers_to_bfloat", threads(static_cast<unsigned>(x.size())), x.size() * 3,
      [&](std::size_t at) {
        const std::int64_t v = x[at / 3];
        return nearest(at % 3 == 0   ? static_cast<long double>(v)
                       : at % 3 == 1 ? static_cast<long double>(static_cast<std::int32_t>(v))
                                     : static_cast<long double>(static_cast<std::uint64_t>(v)));
      },
      x);
}

TEST(softmetal_types, sines_and_cosines_of_halves_of_pi_are_exact) {
  const std::vector<float> x{0, 0.5f, 1, 1.5f, 2, 2.5f, 3, 4097.5f, 1e9f, -0.5f, -1, -1.5f, -2, -2.5f, -4099};
  const std::vector<float> sines{0, 1, 0, -1, 0, 1, 0, -1, 0, -1, 0, 1, 0, -1, 0};
  const std::vector<float> cosines{1, 0, -1, 0, 1, 0, -1, 0, 1, 0, -1, 0, 1, 0, -1};
  expect<float>(
      kernels(), "halves_of_pi", threads(static_cast<unsigned>(x.size())), x.size() * 2,
      [&](std::size_t i) { return i % 2 == 0 ? sines[i / 2] : cosines[i / 2]; }, x);
  const std::vector<float> others{0.25f, 0.3f, -0.7f, 1.1f, 100.125f, -3.9f, 1e-5f};
  for (Mode mode : {Mode::fast, Mode::checked}) {
    std::vector<float> y(others.size() * 2), in = others;
    CHECK_EQ(kernels().run(mode, "halves_of_pi", threads(static_cast<unsigned>(in.size())), y, in), "");
    for (std::size_t i = 0; i < others.size(); ++i) {
      const double angle = std::numbers::pi * static_cast<double>(others[i]);
      CHECK(std::abs(y[2 * i] - std::sin(angle)) <= 2e-7 * std::abs(std::sin(angle)));
      CHECK(std::abs(y[2 * i + 1] - std::cos(angle)) <= 2e-7 * std::abs(std::cos(angle)));
    }
  }
}

TEST(softmetal_types, fractions_are_below_one) {
  for (Mode mode : {Mode::fast, Mode::checked}) {
    std::vector<float> y(4);
    std::vector<std::uint16_t> z(2);
    CHECK_EQ(kernels().run(mode, "fractions", threads(1), y, z), "");
    CHECK((y == std::vector<float>{0x1.fffffep-1f, 0.75f, 1, 1}));
    CHECK((z == std::vector<std::uint16_t>{0x3bff, 0x3a00}));
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
