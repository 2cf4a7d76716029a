// Scalar types of MSL, their traits and limits. half computes in 16 bits; bfloat is stored in 16 bits and
// computes through float, rounding every result. As in Apple's library, nothing converts to bfloat unasked.
#pragma once

using half = _Float16;
using uchar = unsigned char;
using ushort = unsigned short;
using uint = unsigned int;
using ulong = unsigned long;
using int8_t = signed char;
using int16_t = short;
using int32_t = int;
using int64_t = long;
using uint8_t = unsigned char;
using uint16_t = unsigned short;
using uint32_t = unsigned int;
using uint64_t = unsigned long;
using size_t = unsigned long;
using ptrdiff_t = long;
using uintptr_t = unsigned long;

namespace metal {

template <class T, T v>
struct integral_constant {
  static constexpr T value = v;
  using value_type = T;
  using type = integral_constant;
  constexpr operator T() const { return v; }
};
template <bool b>
using bool_constant = integral_constant<bool, b>;
using true_type = bool_constant<true>;
using false_type = bool_constant<false>;

template <class A, class B>
struct is_same : bool_constant<__is_same(A, B)> {};
template <class A, class B>
inline constexpr bool is_same_v = __is_same(A, B);

template <bool b, class A, class B>
struct conditional {
  using type = A;
};
template <class A, class B>
struct conditional<false, A, B> {
  using type = B;
};
template <bool b, class A, class B>
using conditional_t = typename conditional<b, A, B>::type;

template <bool b, class T = void>
struct enable_if {};
template <class T>
struct enable_if<true, T> {
  using type = T;
};
template <bool b, class T = void>
using enable_if_t = typename enable_if<b, T>::type;
template <class T>
struct type_identity {
  using type = T;
};
template <class T>
using type_identity_t = typename type_identity<T>::type;

template <class T>
using remove_cv_t = __remove_cv(T);
template <class T>
struct remove_cv : type_identity<__remove_cv(T)> {};
template <class T>
using remove_reference_t = __remove_reference_t(T);
template <class T>
struct remove_reference : type_identity<__remove_reference_t(T)> {};
template <class T>
using remove_const_t = __remove_const(T);
template <class T>
struct remove_const : type_identity<__remove_const(T)> {};
template <class T>
using remove_pointer_t = __remove_pointer(T);
template <class T>
struct remove_pointer : type_identity<__remove_pointer(T)> {};
template <class T>
using decay_t = __decay(T);
template <class T>
struct decay : type_identity<__decay(T)> {};
template <class T>
T&& declval();

}  // namespace metal

struct bfloat {
  unsigned short bits;

  bfloat() = default;
  template <class T, class = metal::enable_if_t<__is_arithmetic(T) || __is_same(T, half)>>
  explicit constexpr bfloat(T value) : bits(round(to_float(value))) {}
  constexpr operator float() const { return __builtin_bit_cast(float, static_cast<unsigned>(bits) << 16); }

  static constexpr bfloat from_bits(unsigned short bits) {
    bfloat result{};
    result.bits = bits;
    return result;
  }
  // To the nearest, ties to even; a NaN stays one.
  static constexpr unsigned short round(float value) {
    unsigned raw = __builtin_bit_cast(unsigned, value);
    if ((raw & 0x7fffffffu) > 0x7f800000u) return static_cast<unsigned short>((raw >> 16) | 0x40u);
    return static_cast<unsigned short>((raw + 0x7fffu + ((raw >> 16) & 1u)) >> 16);
  }
  constexpr bfloat operator-() const { return from_bits(bits ^ 0x8000u); }

 private:
  // Integers lose nothing but what a bit beyond bfloat's stands for, so that they are rounded once.
  template <class T>
  static constexpr float to_float(T value) {
    if constexpr (__is_integral(T) && sizeof(T) >= sizeof(float)) {
      const bool negative = value < T(0);
      unsigned long size =
          negative ? 0ul - static_cast<unsigned long>(value) : static_cast<unsigned long>(value);
      float scale = negative ? -1.0f : 1.0f;
      for (; size >> 24 != 0; scale *= 2) size = size >> 1 | (size & 1);
      return static_cast<float>(size) * scale;
    } else {
      return static_cast<float>(value);
    }
  }
};

#define SOFTMETAL_BFLOAT_OPERATOR(op)                              \
  constexpr bfloat operator op(bfloat a, bfloat b) {               \
    return bfloat(static_cast<float>(a) op static_cast<float>(b)); \
  }                                                                \
  constexpr bfloat& operator op## = (bfloat & a, bfloat b) { return a = a op b; }
SOFTMETAL_BFLOAT_OPERATOR(+)
SOFTMETAL_BFLOAT_OPERATOR(-)
SOFTMETAL_BFLOAT_OPERATOR(*)
SOFTMETAL_BFLOAT_OPERATOR(/)
#undef SOFTMETAL_BFLOAT_OPERATOR

namespace metal {

template <class T>
inline constexpr bool is_integral_v = __is_integral(T);
template <class T>
struct is_integral : bool_constant<__is_integral(T)> {};
template <class T>
inline constexpr bool is_floating_point_v =
    is_same_v<remove_cv_t<T>, float> || is_same_v<remove_cv_t<T>, half> || is_same_v<remove_cv_t<T>, bfloat>;
template <class T>
struct is_floating_point : bool_constant<is_floating_point_v<T>> {};
template <class T>
inline constexpr bool is_arithmetic_v = is_integral_v<T> || is_floating_point_v<T>;
template <class T>
struct is_arithmetic : bool_constant<is_arithmetic_v<T>> {};
template <class T>
inline constexpr bool is_scalar_v = is_arithmetic_v<T>;
template <class T>
struct is_scalar : bool_constant<is_arithmetic_v<T>> {};
template <class T>
inline constexpr bool is_signed_v = is_floating_point_v<T> || __is_signed(T);
template <class T>
struct is_signed : bool_constant<is_signed_v<T>> {};
template <class T>
inline constexpr bool is_unsigned_v = is_integral_v<T> && !__is_signed(T);
template <class T>
struct is_unsigned : bool_constant<is_unsigned_v<T>> {};
template <class T>
using make_unsigned_t = __make_unsigned(T);
template <class T>
struct make_unsigned : type_identity<__make_unsigned(T)> {};
template <class T>
using make_signed_t = __make_signed(T);
template <class T>
struct make_signed : type_identity<__make_signed(T)> {};
template <class A, class B>
inline constexpr bool is_convertible_v = __is_convertible_to(A, B);
template <class A, class B>
struct is_convertible : bool_constant<__is_convertible_to(A, B)> {};

template <class T>
struct numeric_limits {
  static constexpr bool is_specialized = is_integral_v<T>;
  static constexpr bool is_integer = true;
  static constexpr bool is_signed = is_signed_v<T>;
  static constexpr int digits = static_cast<int>(sizeof(T)) * 8 - (is_signed ? 1 : 0);
  static constexpr bool has_infinity = false;
  static constexpr bool has_quiet_NaN = false;
  static constexpr T max() { return is_same_v<T, bool> ? T(1) : static_cast<T>(~0ul >> (64 - digits)); }
  static constexpr T min() { return is_signed ? static_cast<T>(~max()) : T(0); }
  static constexpr T lowest() { return min(); }
};

#define SOFTMETAL_FLOAT_LIMITS(T, mantissa, largest, least, step)    \
  template <>                                                        \
  struct numeric_limits<T> {                                         \
    static constexpr bool is_specialized = true;                     \
    static constexpr bool is_integer = false;                        \
    static constexpr bool is_signed = true;                          \
    static constexpr int digits = mantissa;                          \
    static constexpr bool has_infinity = true;                       \
    static constexpr bool has_quiet_NaN = true;                      \
    static constexpr T max() { return T(largest); }                  \
    static constexpr T lowest() { return -T(largest); }              \
    static constexpr T min() { return T(least); }                    \
    static constexpr T epsilon() { return T(step); }                 \
    static constexpr T infinity() { return T(__builtin_inff()); }    \
    static constexpr T quiet_NaN() { return T(__builtin_nanf("")); } \
  };
SOFTMETAL_FLOAT_LIMITS(float, 24, 0x1.fffffep127f, 0x1p-126f, 0x1p-23f)
SOFTMETAL_FLOAT_LIMITS(half, 11, 65504.0f, 0x1p-14f, 0x1p-10f)
SOFTMETAL_FLOAT_LIMITS(bfloat, 8, 0x1.fep127f, 0x1p-126f, 0x1p-7f)
#undef SOFTMETAL_FLOAT_LIMITS

}  // namespace metal

#define INFINITY (__builtin_inff())
#define NAN (__builtin_nanf(""))
#define HUGE_VALF (__builtin_inff())
#define MAXFLOAT 0x1.fffffep127f
#define MAXHALF static_cast<half>(65504.0f)
#define FLT_MAX 0x1.fffffep127f
#define FLT_MIN 0x1p-126f
#define FLT_EPSILON 0x1p-23f
#define HALF_MAX static_cast<half>(65504.0f)
#define HALF_MIN static_cast<half>(0x1p-14f)
#define HALF_EPSILON static_cast<half>(0x1p-10f)
#define CHAR_BIT 8
#define SCHAR_MAX 127
#define SCHAR_MIN (-128)
#define UCHAR_MAX 255
#define SHRT_MAX 32767
#define SHRT_MIN (-32768)
#define USHRT_MAX 65535
#define INT_MAX 2147483647
#define INT_MIN (-2147483647 - 1)
#define UINT_MAX 4294967295u
#define LONG_MAX 9223372036854775807l
#define LONG_MIN (-9223372036854775807l - 1)
#define ULONG_MAX 18446744073709551615ul
#define M_E_F 2.71828182845904523536f
#define M_LOG2E_F 1.44269504088896340736f
#define M_LOG10E_F 0.43429448190325182765f
#define M_LN2_F 0.69314718055994530942f
#define M_LN10_F 2.30258509299404568402f
#define M_PI_F 3.14159265358979323846f
#define M_PI_2_F 1.57079632679489661923f
#define M_PI_4_F 0.78539816339744830962f
#define M_1_PI_F 0.31830988618379067154f
#define M_2_PI_F 0.63661977236758134308f
#define M_2_SQRTPI_F 1.12837916709551257390f
#define M_SQRT2_F 1.41421356237309504880f
#define M_SQRT1_2_F 0.70710678118654752440f
#define M_PI_H static_cast<half>(M_PI_F)
#define M_E_H static_cast<half>(M_E_F)
