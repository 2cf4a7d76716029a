// Vectors, with the swizzles that are read (a lowered source calls them: v.xy()), packed vectors, as_type,
// select.
#pragma once

#include "scalars.h"

namespace metal {

template <class T, int N>
struct vec;
template <class T>
inline constexpr int lanes_v = 1;
template <class T, int N>
inline constexpr int lanes_v<vec<T, N>> = N;

// A vector is of one scalar, of another vector of as many elements, or of parts that are as many together.
#define NPU_MSL_VECTOR(N)                                                                    \
  vec() = default;                                                                           \
  template <class S>                                                                         \
    requires(is_scalar_v<S>)                                                                 \
  NPU_MSL vec(S s) {                                                                         \
    for (int i = 0; i < N; ++i) (*this)[i] = T(s);                                           \
  }                                                                                          \
  template <class U>                                                                         \
    requires(!is_same_v<U, T>)                                                               \
  explicit NPU_MSL vec(vec<U, N> other) {                                                    \
    for (int i = 0; i < N; ++i) (*this)[i] = T(other[i]);                                    \
  }                                                                                          \
  template <class... Parts>                                                                  \
    requires(sizeof...(Parts) > 1)                                                           \
  NPU_MSL vec(Parts... parts) {                                                              \
    static_assert((lanes_v<Parts> + ...) == N, "parts have as many elements as the vector"); \
    int at = 0;                                                                              \
    (add(at, parts), ...);                                                                   \
  }                                                                                          \
  template <class S>                                                                         \
  NPU_MSL void add(int& at, S part) {                                                        \
    if constexpr (lanes_v<S> > 1) {                                                          \
      for (int i = 0; i < lanes_v<S>; ++i) (*this)[at++] = T(part[i]);                       \
    } else {                                                                                 \
      (*this)[at++] = T(part);                                                               \
    }                                                                                        \
  }                                                                                          \
  NPU_MSL T& operator[](int i) { return (&x)[i]; }                                           \
  NPU_MSL const T& operator[](int i) const { return (&x)[i]; }

// Results are constant: nothing can be assigned to a swizzle.
#define NPU_MSL_PAIR(a, b) \
  NPU_MSL const vec<T, 2> a##b() const { return vec<T, 2>(a, b); }
#define NPU_MSL_TRIPLE(a, b, c) \
  NPU_MSL const vec<T, 3> a##b##c() const { return vec<T, 3>(a, b, c); }
#define NPU_MSL_QUADRUPLE(a, b, c, d) \
  NPU_MSL const vec<T, 4> a##b##c##d() const { return vec<T, 4>(a, b, c, d); }
#define NPU_MSL_PAIRS2 NPU_MSL_PAIR(x, x) NPU_MSL_PAIR(x, y) NPU_MSL_PAIR(y, x) NPU_MSL_PAIR(y, y)
#define NPU_MSL_PAIRS3                                                                       \
  NPU_MSL_PAIRS2 NPU_MSL_PAIR(x, z) NPU_MSL_PAIR(y, z) NPU_MSL_PAIR(z, x) NPU_MSL_PAIR(z, y) \
      NPU_MSL_PAIR(z, z)
#define NPU_MSL_PAIRS4                                                                       \
  NPU_MSL_PAIRS3 NPU_MSL_PAIR(x, w) NPU_MSL_PAIR(y, w) NPU_MSL_PAIR(z, w) NPU_MSL_PAIR(w, x) \
      NPU_MSL_PAIR(w, y) NPU_MSL_PAIR(w, z) NPU_MSL_PAIR(w, w)

template <class T>
struct alignas(2 * sizeof(T)) vec<T, 2> {
  T x, y;
  NPU_MSL_VECTOR(2)
  NPU_MSL_PAIRS2
};
template <class T>
struct alignas(4 * sizeof(T)) vec<T, 3> {
  T x, y, z;
  NPU_MSL_VECTOR(3)
  NPU_MSL_PAIRS3
  NPU_MSL_TRIPLE(x, y, z)
  NPU_MSL_TRIPLE(z, y, x)
};
template <class T>
struct alignas(4 * sizeof(T) > 16 ? 16 : 4 * sizeof(T)) vec<T, 4> {
  T x, y, z, w;
  NPU_MSL_VECTOR(4)
  NPU_MSL_PAIRS4
  NPU_MSL_TRIPLE(x, y, z)
  NPU_MSL_TRIPLE(y, z, w)
  NPU_MSL_TRIPLE(z, y, x)
  NPU_MSL_QUADRUPLE(x, y, z, w)
  NPU_MSL_QUADRUPLE(w, z, y, x)
  NPU_MSL_QUADRUPLE(y, x, w, z)
};

#define NPU_MSL_OPERATOR(op)                                \
  template <class T, int N>                                 \
  NPU_MSL vec<T, N> operator op(vec<T, N> a, vec<T, N> b) { \
    vec<T, N> r;                                            \
    for (int i = 0; i < N; ++i) r[i] = T(a[i] op b[i]);     \
    return r;                                               \
  }                                                         \
  template <class T, int N, class S>                        \
    requires(is_scalar_v<S>)                                \
  NPU_MSL vec<T, N> operator op(vec<T, N> a, S b) {         \
    return a op vec<T, N>(b);                               \
  }                                                         \
  template <class T, int N, class S>                        \
    requires(is_scalar_v<S>)                                \
  NPU_MSL vec<T, N> operator op(S a, vec<T, N> b) {         \
    return vec<T, N>(a) op b;                               \
  }                                                         \
  template <class T, int N, class B>                        \
  NPU_MSL vec<T, N>& operator op## = (vec<T, N> & a, B b) { \
    return a = a op b;                                      \
  }
NPU_MSL_OPERATOR(+)
NPU_MSL_OPERATOR(-)
NPU_MSL_OPERATOR(*)
NPU_MSL_OPERATOR(/)
NPU_MSL_OPERATOR(%)
NPU_MSL_OPERATOR(&)
NPU_MSL_OPERATOR(|)
NPU_MSL_OPERATOR(^)
NPU_MSL_OPERATOR(<<)
NPU_MSL_OPERATOR(>>)
#undef NPU_MSL_OPERATOR

#define NPU_MSL_COMPARISON(op)                                 \
  template <class T, int N>                                    \
  NPU_MSL vec<bool, N> operator op(vec<T, N> a, vec<T, N> b) { \
    vec<bool, N> r;                                            \
    for (int i = 0; i < N; ++i) r[i] = a[i] op b[i];           \
    return r;                                                  \
  }                                                            \
  template <class T, int N, class S>                           \
    requires(is_scalar_v<S>)                                   \
  NPU_MSL vec<bool, N> operator op(vec<T, N> a, S b) {         \
    return a op vec<T, N>(b);                                  \
  }                                                            \
  template <class T, int N, class S>                           \
    requires(is_scalar_v<S>)                                   \
  NPU_MSL vec<bool, N> operator op(S a, vec<T, N> b) {         \
    return vec<T, N>(a) op b;                                  \
  }
NPU_MSL_COMPARISON(==)
NPU_MSL_COMPARISON(!=)
NPU_MSL_COMPARISON(<)
NPU_MSL_COMPARISON(<=)
NPU_MSL_COMPARISON(>)
NPU_MSL_COMPARISON(>=)
NPU_MSL_COMPARISON(&&)
NPU_MSL_COMPARISON(||)
#undef NPU_MSL_COMPARISON

#define NPU_MSL_SIGN(op)                           \
  template <class T, int N>                        \
  NPU_MSL vec<T, N> operator op(vec<T, N> a) {     \
    for (int i = 0; i < N; ++i) a[i] = T(op a[i]); \
    return a;                                      \
  }
NPU_MSL_SIGN(-)
NPU_MSL_SIGN(~)
NPU_MSL_SIGN(!)
#undef NPU_MSL_SIGN

template <int N>
NPU_MSL bool any(vec<bool, N> a) {
  bool r = false;
  for (int i = 0; i < N; ++i) r |= a[i];
  return r;
}
template <int N>
NPU_MSL bool all(vec<bool, N> a) {
  bool r = true;
  for (int i = 0; i < N; ++i) r &= a[i];
  return r;
}
template <class T>
NPU_MSL T select(T a, T b, bool c) {
  return c ? b : a;
}
template <class T, int N>
NPU_MSL vec<T, N> select(vec<T, N> a, vec<T, N> b, vec<bool, N> c) {
  for (int i = 0; i < N; ++i) a[i] = c[i] ? b[i] : a[i];
  return a;
}

// Elements side by side, aligned as one of them. They are moved together where the address allows it.
template <class T, int N>
struct packed_vec {
  T e[N];
  packed_vec() = default;
  packed_vec(const packed_vec&) = default;
  NPU_MSL packed_vec(vec<T, N> v) {
    for (int i = 0; i < N; ++i) e[i] = v[i];
  }
  NPU_MSL bool is_aligned() const {
    return sizeof(T) * N <= 16 && N != 3 && (ulong(e) & (sizeof(T) * N - 1)) == 0;
  }
  NPU_MSL operator vec<T, N>() const {
    if (is_aligned()) return *reinterpret_cast<const vec<T, N>*>(e);
    vec<T, N> r;
    for (int i = 0; i < N; ++i) r[i] = e[i];
    return r;
  }
  NPU_MSL packed_vec& operator=(const packed_vec& other) {
    vec<T, N> v;
    for (int i = 0; i < N; ++i) v[i] = other.e[i];
    if (is_aligned()) {
      *reinterpret_cast<vec<T, N>*>(e) = v;
    } else {
      for (int i = 0; i < N; ++i) e[i] = v[i];
    }
    return *this;
  }
  NPU_MSL T& operator[](int i) { return e[i]; }
  NPU_MSL const T& operator[](int i) const { return e[i]; }
};

#define NPU_MSL_NAMES(T)                  \
  typedef vec<T, 2> T##2;                 \
  typedef vec<T, 3> T##3;                 \
  typedef vec<T, 4> T##4;                 \
  typedef packed_vec<T, 2> packed_##T##2; \
  typedef packed_vec<T, 3> packed_##T##3; \
  typedef packed_vec<T, 4> packed_##T##4;
NPU_MSL_NAMES(bool)
NPU_MSL_NAMES(char)
NPU_MSL_NAMES(uchar)
NPU_MSL_NAMES(short)
NPU_MSL_NAMES(ushort)
NPU_MSL_NAMES(int)
NPU_MSL_NAMES(uint)
NPU_MSL_NAMES(long)
NPU_MSL_NAMES(ulong)
NPU_MSL_NAMES(half)
NPU_MSL_NAMES(bfloat)
NPU_MSL_NAMES(float)
#undef NPU_MSL_NAMES

template <class To, class From>
NPU_MSL To as_type(From v) {
  static_assert(sizeof(To) == sizeof(From), "as_type is between types of one size");
  To r;
  memcpy(&r, &v, sizeof r);
  return r;
}

}  // namespace metal
