// Folding many elements into one: sums and products that keep what rounding took, integers, and how lanes and
// simdgroups join what they have. Each kind of fold is a struct with
//   Acc, what is carried; none(), of no element; add(acc, value, index); merge(acc, acc); kCentred, whether
//   add wants how far a value is from some other one; moved(acc, shuffle) exists for its Acc.
#pragma once

#include "nest.h"

// What an element is computed in.
template <typename T>
struct RegisterOf {
  using type = int64_t;
};
template <>
struct RegisterOf<float> {
  using type = float;
};
template <>
struct RegisterOf<half> {
  using type = float;
};
template <>
struct RegisterOf<bfloat> {
  using type = float;
};
template <typename T>
using Register = typename RegisterOf<T>::type;

// A number and its rounding error. Operations on it must not be contracted: a product that is rounded
// in only one of its uses would be counted twice.
struct Exact {
  float main;
  float rest;
};

inline Exact exact(float x) { return {x, 0.0f}; }

// Infinities and NaN leave a rest that means nothing.
inline float value_of(Exact a) {
  return isfinite(a.main) && a.rest != 0.0f ? a.main + a.rest : a.main;  // and zero keeps its sign
}

inline Exact plus(Exact a, Exact b) {
#pragma clang fp contract(off)
  const float sum = a.main + b.main;
  const float part = sum - a.main;
  const float lost = (a.main - (sum - part)) + (b.main - part);
  return {sum, lost + (a.rest + b.rest)};
}

inline Exact times(Exact a, Exact b) {
#pragma clang fp contract(off)
  const float product = a.main * b.main;
  const float lost = fma(a.main, b.main, -product);
  return {product, lost + (a.main * b.rest + a.rest * b.main)};
}

struct ShuffleXor {
  ushort mask;
  float operator()(float x) const { return simd_shuffle_xor(x, mask); }
  uint operator()(uint x) const { return simd_shuffle_xor(x, mask); }
};
struct ShuffleUp {
  ushort by;
  float operator()(float x) const { return simd_shuffle_up(x, by); }
  uint operator()(uint x) const { return simd_shuffle_up(x, by); }
};

template <typename Shuffle>
inline float moved(float a, Shuffle shuffle) {
  return shuffle(a);
}
template <typename Shuffle>
inline Exact moved(Exact a, Shuffle shuffle) {
  return {shuffle(a.main), shuffle(a.rest)};
}
template <typename Shuffle>
inline int64_t moved(int64_t a, Shuffle shuffle) {
  const uint2 halves = as_type<uint2>(a);
  return as_type<int64_t>(uint2(shuffle(halves.x), shuffle(halves.y)));
}

// Sums and products of floats, exact but for the last bit, and of integers, which wrap.
template <typename R>
struct Sum {
  using Acc = Exact;
  static constant constexpr bool kCentred = false;
  static Acc none() { return exact(0.0f); }
  static Acc add(Acc a, float x, uint) { return plus(a, exact(x)); }
  static Acc merge(Acc a, Acc b) { return plus(a, b); }
};
template <>
struct Sum<int64_t> {
  using Acc = int64_t;
  static constant constexpr bool kCentred = false;
  static Acc none() { return 0; }
  static Acc add(Acc a, int64_t x, uint) { return merge(a, x); }
  static Acc merge(Acc a, Acc b) { return int64_t(uint64_t(a) + uint64_t(b)); }
};
template <typename R>
struct Product {
  using Acc = Exact;
  static constant constexpr bool kCentred = false;
  static Acc none() { return exact(1.0f); }
  static Acc add(Acc a, float x, uint) { return times(a, exact(x)); }
  static Acc merge(Acc a, Acc b) { return times(a, b); }
};
template <>
struct Product<int64_t> {
  using Acc = int64_t;
  static constant constexpr bool kCentred = false;
  static Acc none() { return 1; }
  static Acc add(Acc a, int64_t x, uint) { return merge(a, x); }
  static Acc merge(Acc a, Acc b) { return int64_t(uint64_t(a) * uint64_t(b)); }
};

// The sum and the sum of squares of numbers, for a variance around any of them: add what is above that one.
struct Spread {
  Exact sum;
  Exact squares;
};

template <typename Shuffle>
inline Spread moved(Spread a, Shuffle shuffle) {
  return {moved(a.sum, shuffle), moved(a.squares, shuffle)};
}

struct Spreads {
  using Acc = Spread;
  static constant constexpr bool kCentred = true;
  static Acc none() { return {exact(0.0f), exact(0.0f)}; }
  static Acc add(Acc a, float above, uint) {
    const Exact x = exact(above);
    return {plus(a.sum, x), plus(a.squares, times(x, x))};
  }
  static Acc merge(Acc a, Acc b) { return {plus(a.sum, b.sum), plus(a.squares, b.squares)}; }
};

inline Exact mean_of(Exact sum, float count) {
#pragma clang fp contract(off)
  const float mean = sum.main / count;
  return {mean, (fma(-mean, count, sum.main) + sum.rest) / count};
}

// The sum of squares around the mean.
inline float squares_around_mean(Spread a, float count) {
  const Exact out = times(a.sum, mean_of(a.sum, count));
  return value_of(plus(a.squares, {-out.main, -out.rest}));
}

// All lanes get the same.
template <typename Fold>
inline typename Fold::Acc across_lanes(typename Fold::Acc a) {
  for (ushort mask = kSimd / 2; mask > 0; mask /= 2) a = Fold::merge(a, moved(a, ShuffleXor{mask}));
  return a;
}

// All threads get the same. `room` has an element for each simdgroup, and may be used again at once.
template <typename Fold>
inline typename Fold::Acc across_group(typename Fold::Acc a, threadgroup typename Fold::Acc* room, uint lane,
                                       uint simdgroup, uint simdgroups) {
  a = across_lanes<Fold>(a);
  if (lane == 0) room[simdgroup] = a;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  typename Fold::Acc all = Fold::none();
  if (lane < simdgroups) all = room[lane];
  all = across_lanes<Fold>(all);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  return all;
}
