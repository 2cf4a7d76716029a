// packed_float3 and its kin: the elements side by side, aligned as one of them; and metal::array.
#pragma once

#include "vector.h"

namespace metal {

template <class T, int N>
struct packed_vec {
  T elements[N];

  packed_vec() = default;
  constexpr packed_vec(vec<T, N> value) : elements{} {
    for (int i = 0; i < N; ++i) elements[i] = value.get(i);
  }
  template <class... Values>
    requires(sizeof...(Values) > 1)
  constexpr packed_vec(Values... values) : packed_vec(vec<T, N>(values...)) {}
  explicit constexpr packed_vec(T scalar) : packed_vec(vec<T, N>(scalar)) {}

  constexpr operator vec<T, N>() const {
    vec<T, N> result;
    for (int i = 0; i < N; ++i) result.put(i, elements[i]);
    return result;
  }
  constexpr T& operator[](long i) { return elements[i]; }
  constexpr const T& operator[](long i) const { return elements[i]; }

#define SOFTMETAL_PACKED_ELEMENT(name, at)                     \
  constexpr T get_##name() const { return elements[at]; }      \
  constexpr void put_##name(T value) { elements[at] = value; } \
  __declspec(property(get = get_##name, put = put_##name)) T name;
  SOFTMETAL_PACKED_ELEMENT(x, 0)
  SOFTMETAL_PACKED_ELEMENT(y, 1)
  SOFTMETAL_PACKED_ELEMENT(z, N > 2 ? 2 : 0)
  SOFTMETAL_PACKED_ELEMENT(w, N > 3 ? 3 : 0)
#undef SOFTMETAL_PACKED_ELEMENT
};

#define SOFTMETAL_PACKED_OPERATOR(op)                                                 \
  template <class T, int N>                                                           \
  constexpr vec<T, N> operator op(packed_vec<T, N> a, packed_vec<T, N> b) {           \
    return vec<T, N>(a) op vec<T, N>(b);                                              \
  }                                                                                   \
  template <class T, int N>                                                           \
  constexpr vec<T, N> operator op(packed_vec<T, N> a, type_identity_t<vec<T, N>> b) { \
    return vec<T, N>(a) op b;                                                         \
  }                                                                                   \
  template <class T, int N>                                                           \
  constexpr vec<T, N> operator op(type_identity_t<vec<T, N>> a, packed_vec<T, N> b) { \
    return a op vec<T, N>(b);                                                         \
  }
SOFTMETAL_PACKED_OPERATOR(+)
SOFTMETAL_PACKED_OPERATOR(-)
SOFTMETAL_PACKED_OPERATOR(*)
SOFTMETAL_PACKED_OPERATOR(/)
#undef SOFTMETAL_PACKED_OPERATOR

// A fixed-size array that copies; also where one may not be passed otherwise.
template <class T, size_t N>
struct array {
  T elements[N];
  constexpr T& operator[](size_t i) { return elements[i]; }
  constexpr const T& operator[](size_t i) const { return elements[i]; }
  constexpr size_t size() const { return N; }
};

}  // namespace metal

#define SOFTMETAL_PACKED_NAMES(T)                \
  using packed_##T##2 = metal::packed_vec<T, 2>; \
  using packed_##T##3 = metal::packed_vec<T, 3>; \
  using packed_##T##4 = metal::packed_vec<T, 4>;
SOFTMETAL_PACKED_NAMES(char)
SOFTMETAL_PACKED_NAMES(uchar)
SOFTMETAL_PACKED_NAMES(short)
SOFTMETAL_PACKED_NAMES(ushort)
SOFTMETAL_PACKED_NAMES(int)
SOFTMETAL_PACKED_NAMES(uint)
SOFTMETAL_PACKED_NAMES(long)
SOFTMETAL_PACKED_NAMES(ulong)
SOFTMETAL_PACKED_NAMES(half)
SOFTMETAL_PACKED_NAMES(bfloat)
SOFTMETAL_PACKED_NAMES(float)
#undef SOFTMETAL_PACKED_NAMES
