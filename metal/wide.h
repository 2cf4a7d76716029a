// 16 bytes of a row as floats.
#pragma once

#include "nest.h"

template <typename T>
struct Wide {
  static constant constexpr int kFours = 2;
  float4 at[kFours];
};
template <>
struct Wide<float> {
  static constant constexpr int kFours = 1;
  float4 at[kFours];
};

// Four of int8 in a word.
inline float4 four_of_int8(uint word) {
  return float4(int4(uint4(word << 24, word << 16, word << 8, word)) >> 24);
}
// As many elements of int8; four are in the first word.
template <typename T>
inline Wide<T> wide_of_int8(uint2 words) {
  Wide<T> wide;
  wide.at[0] = four_of_int8(words.x);
  if (Wide<T>::kFours == 2) wide.at[Wide<T>::kFours - 1] = four_of_int8(words.y);
  return wide;
}

// 16 bytes as they were loaded. The higher of two bfloats is a float already but for what follows its bits.
inline Wide<float> wide_of(uint4 raw, float) { return {{as_type<float4>(raw)}}; }
inline Wide<half> wide_of(uint4 raw, half) {
  return {{float4(as_type<half4>(raw.xy)), float4(as_type<half4>(raw.zw))}};
}
inline Wide<bfloat> wide_of(uint4 raw, bfloat) {
  const float4 even = as_type<float4>(raw << 16), odd = as_type<float4>(raw & 0xffff0000u);
  return {{float4(even.x, odd.x, even.y, odd.y), float4(even.z, odd.z, even.w, odd.w)}};
}

// The other way round; T rounds.
inline uint4 raw_of(Wide<float> x, float) { return as_type<uint4>(x.at[0]); }
template <typename T>
inline uint pair_of(float low, float high, T) {
  return uint(as_type<ushort>(T(low))) | uint(as_type<ushort>(T(high))) << 16;
}
template <typename T>
inline uint4 raw_of(Wide<T> x, T) {
  return uint4(pair_of(x.at[0].x, x.at[0].y, T(0.0f)), pair_of(x.at[0].z, x.at[0].w, T(0.0f)),
               pair_of(x.at[1].x, x.at[1].y, T(0.0f)), pair_of(x.at[1].z, x.at[1].w, T(0.0f)));
}

// From addresses that are multiples of 16.
inline Wide<float> load_wide(const device float* x) { return {{load4(x)}}; }
template <typename T>
inline Wide<T> load_wide(const device T* x) {
  return wide_of(*(const device uint4*)x, T(0.0f));
}
