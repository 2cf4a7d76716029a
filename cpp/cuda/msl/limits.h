// numeric_limits of the scalar types.
#pragma once

#include "scalars.h"

namespace metal {

template <class T>
struct numeric_limits {
  static_assert(is_integer_v<T>, "numeric_limits is of scalars");
  static constexpr bool is_specialized = true, is_integer = true;
  static constexpr bool is_signed = T(-1) < T(0);
  static constexpr int digits = int(8 * sizeof(T)) - int(is_signed);
  static constexpr NPU_MSL T max() { return T(is_signed ? (1ul << (8 * sizeof(T) - 1)) - 1 : ~0ul); }
  static constexpr NPU_MSL T min() { return is_signed ? T(-max() - 1) : T(0); }
  static constexpr NPU_MSL T lowest() { return min(); }
};
template <>
struct numeric_limits<bool> {
  static constexpr bool is_specialized = true, is_integer = true, is_signed = false;
  static constexpr int digits = 1;
  static constexpr NPU_MSL bool max() { return true; }
  static constexpr NPU_MSL bool min() { return false; }
  static constexpr NPU_MSL bool lowest() { return false; }
};
template <>
struct numeric_limits<float> {
  static constexpr bool is_specialized = true, is_integer = false, is_signed = true;
  static constexpr int digits = 24;
  static constexpr NPU_MSL float max() { return FLT_MAX; }
  static constexpr NPU_MSL float min() { return FLT_MIN; }
  static constexpr NPU_MSL float lowest() { return -FLT_MAX; }
  static constexpr NPU_MSL float epsilon() { return FLT_EPSILON; }
  static constexpr NPU_MSL float infinity() { return INFINITY; }
  static constexpr NPU_MSL float quiet_NaN() { return NAN; }
};

// Of 16 bits: the bits of the largest, of the least normal number, and of the step after 1.
template <class H, int kDigits, ushort kMax, ushort kMin, ushort kEpsilon, ushort kInfinity>
struct half_limits {
  static constexpr bool is_specialized = true, is_integer = false, is_signed = true;
  static constexpr int digits = kDigits;
  static NPU_MSL H of(ushort bits) {
    H h;
    h.bits = bits;
    return h;
  }
  static NPU_MSL H max() { return of(kMax); }
  static NPU_MSL H min() { return of(kMin); }
  static NPU_MSL H lowest() { return of(kMax | 0x8000); }
  static NPU_MSL H epsilon() { return of(kEpsilon); }
  static NPU_MSL H infinity() { return of(kInfinity); }
  static NPU_MSL H quiet_NaN() { return of(kInfinity | kInfinity >> 1); }
};
template <>
struct numeric_limits<half> : half_limits<half, 11, 0x7bff, 0x0400, 0x1400, 0x7c00> {};
template <>
struct numeric_limits<bfloat> : half_limits<bfloat, 8, 0x7f7f, 0x0080, 0x3c00, 0x7f80> {};

}  // namespace metal
