// Sums of parts of the depth, which rest in the scratch until they are added up.
#pragma once

#include "nest.h"

// Up to four neighbours of a row that is `width` long; all at once where every row starts at a multiple of 16
// bytes.
inline void store_some(device float* to, float4 sums, int many, int64_t width) {
  if (many >= 4 && width % 4 == 0) {
    *(device float4*)to = sums;
    return;
  }
  NPU_UNROLL
  for (int k = 0; k < 4; ++k) {
    if (k < many) to[k] = sums[k];
  }
}
inline float4 load_some(const device float* from, int many, int64_t width) {
  if (many >= 4 && width % 4 == 0) return *(const device float4*)from;
  float4 sums = float4(0.0f);
  NPU_UNROLL
  for (int k = 0; k < 4; ++k) {
    if (k < many) sums[k] = from[k];
  }
  return sums;
}
