// vec<T, N>: the vector types. A class over clang's vectors, since MSL's constructors - float4(x, y.xy, 1) -
// are not theirs. Swizzles are properties: all pairs, and those triples and quadruples that kernels use.
#pragma once

#include "scalar.h"

namespace metal {

// What one element is in memory: clang packs vectors of bool into bits, MSL does not.
template <class T>
struct element {
  using raw = T;
  static constexpr raw pack(T value) { return value; }
  static constexpr T unpack(raw value) { return value; }
};
template <>
struct element<bool> {
  using raw = unsigned char;
  static constexpr raw pack(bool value) { return value; }
  static constexpr bool unpack(raw value) { return value & 1; }
};
template <>
struct element<bfloat> {
  using raw = unsigned short;
  static constexpr raw pack(bfloat value) { return value.bits; }
  static constexpr bfloat unpack(raw value) { return bfloat::from_bits(value); }
};

template <class T, int N>
struct vec;
template <class T>
struct packed_base {};

template <class T>
struct vector_traits {
  using scalar = T;
  static constexpr int lanes = 1;
};
template <class T, int N>
struct vector_traits<vec<T, N>> {
  using scalar = T;
  static constexpr int lanes = N;
};
template <class T>
inline constexpr bool is_vector_v = vector_traits<T>::lanes > 1;
template <class T>
struct is_vector : bool_constant<is_vector_v<T>> {};

template <class To, class From>
constexpr To convert_element(From value) {
  if constexpr (is_same_v<To, bfloat> || is_same_v<From, bfloat>)
    return static_cast<To>(static_cast<float>(value));
  else
    return static_cast<To>(value);
}

#define SOFTMETAL_ELEMENT(name, at)                                       \
  constexpr T get_##name() const { return element<T>::unpack(v[at]); }    \
  constexpr void put_##name(T value) { v[at] = element<T>::pack(value); } \
  __declspec(property(get = get_##name, put = put_##name)) T name;
#define SOFTMETAL_ELEMENTS(a, b, at) SOFTMETAL_ELEMENT(a, at) SOFTMETAL_ELEMENT(b, at)

#define SOFTMETAL_PAIR(a, b)                                               \
  constexpr vec<T, 2> get_##a##b() const { return vec<T, 2>(a, b); }       \
  constexpr void put_##a##b(vec<T, 2> value) { a = value.x, b = value.y; } \
  __declspec(property(get = get_##a##b, put = put_##a##b)) vec<T, 2> a##b;
#define SOFTMETAL_TWICE(a)                                           \
  constexpr vec<T, 2> get_##a##a() const { return vec<T, 2>(a, a); } \
  __declspec(property(get = get_##a##a)) vec<T, 2> a##a;
#define SOFTMETAL_TRIPLE(a, b, c)                                                          \
  constexpr vec<T, 3> get_##a##b##c() const { return vec<T, 3>(a, b, c); }                 \
  constexpr void put_##a##b##c(vec<T, 3> value) { a = value.x, b = value.y, c = value.z; } \
  __declspec(property(get = get_##a##b##c, put = put_##a##b##c)) vec<T, 3> a##b##c;
#define SOFTMETAL_QUADRUPLE(a, b, c, d)                                                                    \
  constexpr vec<T, 4> get_##a##b##c##d() const { return vec<T, 4>(a, b, c, d); }                           \
  constexpr void put_##a##b##c##d(vec<T, 4> value) { a = value.x, b = value.y, c = value.z, d = value.w; } \
  __declspec(property(get = get_##a##b##c##d, put = put_##a##b##c##d)) vec<T, 4> a##b##c##d;

#define SOFTMETAL_PAIRS2 SOFTMETAL_PAIR(x, y) SOFTMETAL_PAIR(y, x) SOFTMETAL_TWICE(x) SOFTMETAL_TWICE(y)
#define SOFTMETAL_PAIRS3                                                                               \
  SOFTMETAL_PAIRS2 SOFTMETAL_PAIR(x, z) SOFTMETAL_PAIR(z, x) SOFTMETAL_PAIR(y, z) SOFTMETAL_PAIR(z, y) \
      SOFTMETAL_TWICE(z)
#define SOFTMETAL_PAIRS4                                                                               \
  SOFTMETAL_PAIRS3 SOFTMETAL_PAIR(x, w) SOFTMETAL_PAIR(w, x) SOFTMETAL_PAIR(y, w) SOFTMETAL_PAIR(w, y) \
      SOFTMETAL_PAIR(z, w) SOFTMETAL_PAIR(w, z) SOFTMETAL_TWICE(w)

// A scalar widens to every element; other vectors convert only when asked to.
#define SOFTMETAL_VECTOR_BASICS(N)                                                                       \
  using scalar_type = T;                                                                                 \
  using raw = typename element<T>::raw __attribute__((ext_vector_type(N)));                              \
  raw v;                                                                                                 \
  vec() = default;                                                                                       \
  template <class S>                                                                                     \
    requires is_arithmetic_v<S>                                                                          \
  constexpr vec(S scalar) : v(element<T>::pack(convert_element<T>(scalar))) {}                           \
  template <class U>                                                                                     \
    requires(!is_same_v<U, T>)                                                                           \
  explicit constexpr vec(vec<U, N> other) : v{} {                                                        \
    for (int i = 0; i < N; ++i) v[i] = element<T>::pack(convert_element<T>(other.get(i)));               \
  }                                                                                                      \
  template <class A, class B, class... Rest>                                                             \
  constexpr vec(A a, B b, Rest... rest) : v{} {                                                          \
    static_assert(                                                                                       \
        vector_traits<A>::lanes + vector_traits<B>::lanes + (0 + ... + vector_traits<Rest>::lanes) == N, \
        "a vector needs as many elements as it has");                                                    \
    int at = 0;                                                                                          \
    append(at, a), append(at, b), (append(at, rest), ...);                                               \
  }                                                                                                      \
  constexpr T get(int i) const { return element<T>::unpack(v[i]); }                                      \
  constexpr void put(int i, T value) { v[i] = element<T>::pack(value); }                                 \
  T& operator[](long i) { return reinterpret_cast<T*>(&v)[i]; }                                          \
  const T& operator[](long i) const { return reinterpret_cast<const T*>(&v)[i]; }                        \
                                                                                                         \
 private:                                                                                                \
  template <class S>                                                                                     \
  constexpr void append(int& at, S value) {                                                              \
    if constexpr (is_vector_v<S>)                                                                        \
      for (int i = 0; i < vector_traits<S>::lanes; ++i) put(at++, convert_element<T>(value.get(i)));     \
    else                                                                                                 \
      put(at++, convert_element<T>(value));                                                              \
  }                                                                                                      \
                                                                                                         \
 public:

template <class T>
struct vec<T, 2> {
  SOFTMETAL_VECTOR_BASICS(2)
  SOFTMETAL_ELEMENTS(x, r, 0)
  SOFTMETAL_ELEMENTS(y, g, 1)
  SOFTMETAL_PAIRS2
};

template <class T>
struct vec<T, 3> {
  SOFTMETAL_VECTOR_BASICS(3)
  SOFTMETAL_ELEMENTS(x, r, 0)
  SOFTMETAL_ELEMENTS(y, g, 1)
  SOFTMETAL_ELEMENTS(z, b, 2)
  SOFTMETAL_PAIRS3
  SOFTMETAL_TRIPLE(x, y, z)
  SOFTMETAL_TRIPLE(z, y, x)
};

template <class T>
struct vec<T, 4> {
  SOFTMETAL_VECTOR_BASICS(4)
  SOFTMETAL_ELEMENTS(x, r, 0)
  SOFTMETAL_ELEMENTS(y, g, 1)
  SOFTMETAL_ELEMENTS(z, b, 2)
  SOFTMETAL_ELEMENTS(w, a, 3)
  SOFTMETAL_PAIRS4
  SOFTMETAL_TRIPLE(x, y, z)
  SOFTMETAL_TRIPLE(y, z, w)
  SOFTMETAL_TRIPLE(z, y, x)
  SOFTMETAL_QUADRUPLE(x, y, z, w)
  SOFTMETAL_QUADRUPLE(w, z, y, x)
  SOFTMETAL_QUADRUPLE(y, x, w, z)
};

template <class To, class T, int N, class F>
constexpr vec<To, N> map_elements(vec<T, N> a, F f) {
  vec<To, N> result;
  for (int i = 0; i < N; ++i) result.put(i, f(a.get(i)));
  return result;
}
template <class To, class T, int N, class F>
constexpr vec<To, N> map_elements(vec<T, N> a, vec<T, N> b, F f) {
  vec<To, N> result;
  for (int i = 0; i < N; ++i) result.put(i, f(a.get(i), b.get(i)));
  return result;
}

// bfloat computes through float, bool not at all; the rest is what clang's vectors do.
#define SOFTMETAL_VECTOR_OPERATOR(op)                                                \
  template <class T, int N>                                                          \
  constexpr vec<T, N> operator op(vec<T, N> a, vec<T, N> b) {                        \
    static_assert(!is_same_v<T, bool>, "vectors of bool have no arithmetic");        \
    if constexpr (is_same_v<T, bfloat>) {                                            \
      return map_elements<T>(a, b, [](T p, T q) { return static_cast<T>(p op q); }); \
    } else {                                                                         \
      vec<T, N> result;                                                              \
      result.v = a.v op b.v;                                                         \
      return result;                                                                 \
    }                                                                                \
  }                                                                                  \
  template <class T, int N, class S>                                                 \
    requires is_arithmetic_v<S>                                                      \
  constexpr vec<T, N> operator op(vec<T, N> a, S b) {                                \
    return a op vec<T, N>(b);                                                        \
  }                                                                                  \
  template <class T, int N, class S>                                                 \
    requires is_arithmetic_v<S>                                                      \
  constexpr vec<T, N> operator op(S a, vec<T, N> b) {                                \
    return vec<T, N>(a) op b;                                                        \
  }                                                                                  \
  template <class T, int N, class B>                                                 \
  constexpr vec<T, N>& operator op## = (vec<T, N> & a, B b) {                        \
    return a = a op b;                                                               \
  }
SOFTMETAL_VECTOR_OPERATOR(+)
SOFTMETAL_VECTOR_OPERATOR(-)
SOFTMETAL_VECTOR_OPERATOR(*)
SOFTMETAL_VECTOR_OPERATOR(/)
SOFTMETAL_VECTOR_OPERATOR(%)
SOFTMETAL_VECTOR_OPERATOR(&)
SOFTMETAL_VECTOR_OPERATOR(|)
SOFTMETAL_VECTOR_OPERATOR(^)
SOFTMETAL_VECTOR_OPERATOR(<<)
SOFTMETAL_VECTOR_OPERATOR(>>)

#define SOFTMETAL_VECTOR_COMPARISON(op)                               \
  template <class T, int N>                                           \
  constexpr vec<bool, N> operator op(vec<T, N> a, vec<T, N> b) {      \
    return map_elements<bool>(a, b, [](T p, T q) { return p op q; }); \
  }                                                                   \
  template <class T, int N, class S>                                  \
    requires is_arithmetic_v<S>                                       \
  constexpr vec<bool, N> operator op(vec<T, N> a, S b) {              \
    return a op vec<T, N>(b);                                         \
  }                                                                   \
  template <class T, int N, class S>                                  \
    requires is_arithmetic_v<S>                                       \
  constexpr vec<bool, N> operator op(S a, vec<T, N> b) {              \
    return vec<T, N>(a) op b;                                         \
  }
SOFTMETAL_VECTOR_COMPARISON(==)
SOFTMETAL_VECTOR_COMPARISON(!=)
SOFTMETAL_VECTOR_COMPARISON(<)
SOFTMETAL_VECTOR_COMPARISON(<=)
SOFTMETAL_VECTOR_COMPARISON(>)
SOFTMETAL_VECTOR_COMPARISON(>=)
SOFTMETAL_VECTOR_COMPARISON(&&)
SOFTMETAL_VECTOR_COMPARISON(||)

template <class T, int N>
constexpr vec<T, N> operator-(vec<T, N> a) {
  return map_elements<T>(a, [](T p) { return static_cast<T>(-p); });
}
template <class T, int N>
constexpr vec<T, N> operator+(vec<T, N> a) {
  return a;
}
template <class T, int N>
constexpr vec<T, N> operator~(vec<T, N> a) {
  return map_elements<T>(a, [](T p) { return static_cast<T>(~p); });
}
template <class T, int N>
constexpr vec<bool, N> operator!(vec<T, N> a) {
  return map_elements<bool>(a, [](T p) { return !p; });
}
template <class T, int N>
constexpr vec<T, N>& operator++(vec<T, N>& a) {
  return a = a + vec<T, N>(1);
}
template <class T, int N>
constexpr vec<T, N>& operator--(vec<T, N>& a) {
  return a = a - vec<T, N>(1);
}

template <int N>
constexpr bool any(vec<bool, N> a) {
  bool result = false;
  for (int i = 0; i < N; ++i) result |= a.get(i);
  return result;
}
template <int N>
constexpr bool all(vec<bool, N> a) {
  bool result = true;
  for (int i = 0; i < N; ++i) result &= a.get(i);
  return result;
}
constexpr bool any(bool a) { return a; }
constexpr bool all(bool a) { return a; }

// Where the condition holds the second, else the first.
template <class T>
  requires is_arithmetic_v<T>
constexpr T select(T a, type_identity_t<T> b, bool c) {
  return c ? b : a;
}
template <class T, int N>
constexpr vec<T, N> select(vec<T, N> a, vec<T, N> b, vec<bool, N> c) {
  vec<T, N> result;
  for (int i = 0; i < N; ++i) result.put(i, c.get(i) ? b.get(i) : a.get(i));
  return result;
}

}  // namespace metal

template <class To, class From>
constexpr To as_type(From value) {
  static_assert(sizeof(To) == sizeof(From), "as_type needs types of one size");
  return __builtin_bit_cast(To, value);
}

#define SOFTMETAL_VECTOR_NAMES(T) \
  using T##2 = metal::vec<T, 2>;  \
  using T##3 = metal::vec<T, 3>;  \
  using T##4 = metal::vec<T, 4>;  \
  namespace metal {               \
  using ::T##2;                   \
  using ::T##3;                   \
  using ::T##4;                   \
  }
SOFTMETAL_VECTOR_NAMES(bool)
SOFTMETAL_VECTOR_NAMES(char)
SOFTMETAL_VECTOR_NAMES(uchar)
SOFTMETAL_VECTOR_NAMES(short)
SOFTMETAL_VECTOR_NAMES(ushort)
SOFTMETAL_VECTOR_NAMES(int)
SOFTMETAL_VECTOR_NAMES(uint)
SOFTMETAL_VECTOR_NAMES(long)
SOFTMETAL_VECTOR_NAMES(ulong)
SOFTMETAL_VECTOR_NAMES(half)
SOFTMETAL_VECTOR_NAMES(bfloat)
SOFTMETAL_VECTOR_NAMES(float)
#undef SOFTMETAL_VECTOR_NAMES

namespace metal {
using ::bfloat;
using ::half;
using ::int16_t;
using ::int32_t;
using ::int64_t;
using ::int8_t;
using ::ptrdiff_t;
using ::size_t;
using ::uchar;
using ::uint;
using ::uint16_t;
using ::uint32_t;
using ::uint64_t;
using ::uint8_t;
using ::ulong;
using ::ushort;
}  // namespace metal
