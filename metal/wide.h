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

// From addresses that are multiples of 16.
inline Wide<float> load_wide(const device float* x) { return {{load4(x)}}; }
inline Wide<half> load_wide(const device half* x) {
  const uint4 raw = *(const device uint4*)x;
  return {{float4(as_type<half4>(raw.xy)), float4(as_type<half4>(raw.zw))}};
}
// The higher of two is a float already but for what follows its bits.
inline Wide<bfloat> load_wide(const device bfloat* x) {
  const uint4 raw = *(const device uint4*)x;
  const float4 even = as_type<float4>(raw << 16), odd = as_type<float4>(raw & 0xffff0000u);
  return {{float4(even.x, odd.x, even.y, odd.y), float4(even.z, odd.z, even.w, odd.w)}};
}
