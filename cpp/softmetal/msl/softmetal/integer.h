// Functions of integers and their vectors.
#pragma once

#include "math.h"

namespace metal {

#define SOFTMETAL_INTEGER(T)                                                                              \
  constexpr T max(T a, T b) { return a < b ? b : a; }                                                     \
  constexpr T min(T a, T b) { return b < a ? b : a; }                                                     \
  constexpr T clamp(T a, T low, T high) { return min(max(a, low), high); }                                \
  constexpr T abs(T a) { return static_cast<T>(a < T(0) ? T(0) - a : a); }                                \
  constexpr T absdiff(T a, T b) { return static_cast<T>(a < b ? b - a : a - b); }                         \
  constexpr T mad24(T a, T b, T c) { return static_cast<T>(a * b + c); }                                  \
  constexpr T mul24(T a, T b) { return static_cast<T>(a * b); }                                           \
  constexpr T mulhi(T a, T b) {                                                                           \
    using wide = conditional_t<is_signed_v<T>, __int128, unsigned __int128>;                              \
    return static_cast<T>((static_cast<wide>(a) * static_cast<wide>(b)) >> (sizeof(T) * 8));              \
  }                                                                                                       \
  constexpr T madhi(T a, T b, T c) { return static_cast<T>(mulhi(a, b) + c); }                            \
  constexpr T popcount(T a) { return T(__builtin_popcountg(static_cast<make_unsigned_t<T>>(a))); }        \
  constexpr T clz(T a) {                                                                                  \
    return T(__builtin_clzg(static_cast<make_unsigned_t<T>>(a), static_cast<int>(sizeof(T) * 8)));        \
  }                                                                                                       \
  constexpr T ctz(T a) {                                                                                  \
    return T(__builtin_ctzg(static_cast<make_unsigned_t<T>>(a), static_cast<int>(sizeof(T) * 8)));        \
  }                                                                                                       \
  constexpr T rotate(T a, T by) {                                                                         \
    constexpr unsigned bits = sizeof(T) * 8;                                                              \
    auto raw = static_cast<make_unsigned_t<T>>(a);                                                        \
    unsigned n = static_cast<unsigned>(by) % bits;                                                        \
    return static_cast<T>(n ? (raw << n) | (raw >> (bits - n)) : raw);                                    \
  }                                                                                                       \
  constexpr T addsat(T a, T b) {                                                                          \
    T sum{};                                                                                              \
    if (!__builtin_add_overflow(a, b, &sum)) return sum;                                                  \
    return b < T(0) ? numeric_limits<T>::min() : numeric_limits<T>::max();                                \
  }                                                                                                       \
  constexpr T subsat(T a, T b) {                                                                          \
    T rest{};                                                                                             \
    if (!__builtin_sub_overflow(a, b, &rest)) return rest;                                                \
    return is_unsigned_v<T> || b > T(0) ? numeric_limits<T>::min() : numeric_limits<T>::max();            \
  }                                                                                                       \
  constexpr T reverse_bits(T a) {                                                                         \
    T result = 0;                                                                                         \
    for (unsigned i = 0; i < sizeof(T) * 8; ++i) result = static_cast<T>((result << 1) | ((a >> i) & 1)); \
    return result;                                                                                        \
  }
SOFTMETAL_INTEGER(char)
SOFTMETAL_INTEGER(int8_t)
SOFTMETAL_INTEGER(uchar)
SOFTMETAL_INTEGER(short)
SOFTMETAL_INTEGER(ushort)
SOFTMETAL_INTEGER(int)
SOFTMETAL_INTEGER(uint)
SOFTMETAL_INTEGER(long)
SOFTMETAL_INTEGER(ulong)
#undef SOFTMETAL_INTEGER

#define SOFTMETAL_INTEGER_VECTOR1(name)                     \
  template <class T, int N>                                 \
    requires is_integral_v<T>                               \
  constexpr vec<T, N> name(vec<T, N> a) {                   \
    return map_elements<T>(a, [](T p) { return name(p); }); \
  }
SOFTMETAL_INTEGER_VECTOR1(abs)
SOFTMETAL_INTEGER_VECTOR1(popcount)
SOFTMETAL_INTEGER_VECTOR1(clz)
SOFTMETAL_INTEGER_VECTOR1(ctz)
SOFTMETAL_INTEGER_VECTOR1(reverse_bits)
#undef SOFTMETAL_INTEGER_VECTOR1

#define SOFTMETAL_INTEGER_VECTOR2(name)                                 \
  template <class T, int N>                                             \
    requires is_integral_v<T>                                           \
  constexpr vec<T, N> name(vec<T, N> a, type_identity_t<vec<T, N>> b) { \
    return map_elements<T>(a, b, [](T p, T q) { return name(p, q); });  \
  }
SOFTMETAL_INTEGER_VECTOR2(max)
SOFTMETAL_INTEGER_VECTOR2(min)
SOFTMETAL_INTEGER_VECTOR2(absdiff)
SOFTMETAL_INTEGER_VECTOR2(mulhi)
SOFTMETAL_INTEGER_VECTOR2(rotate)
SOFTMETAL_INTEGER_VECTOR2(addsat)
SOFTMETAL_INTEGER_VECTOR2(subsat)
#undef SOFTMETAL_INTEGER_VECTOR2

template <class T, int N>
  requires is_integral_v<T>
constexpr vec<T, N> clamp(vec<T, N> a, type_identity_t<vec<T, N>> low, type_identity_t<vec<T, N>> high) {
  return min(max(a, low), high);
}

// The three-operand forms of min and max.
template <class T>
constexpr T max3(T a, T b, T c) {
  return max(max(a, b), c);
}
template <class T>
constexpr T min3(T a, T b, T c) {
  return min(min(a, b), c);
}
template <class T>
constexpr T median3(T a, T b, T c) {
  return max(min(a, b), min(max(a, b), c));
}

}  // namespace metal
