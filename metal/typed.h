// Numbers in memory whose type, as DType counts it, is known only when a pipeline is made.
#pragma once

#include "nest.h"

inline float load_float(const device char* from, int type, int64_t at) {
  if (type == NPU_FLOAT32) return ((const device float*)from)[at];
  if (type == NPU_FLOAT16) return float(((const device half*)from)[at]);
  return float(((const device bfloat*)from)[at]);
}
inline float4 load_floats(const device char* from, int type, int64_t at) {
  if (type == NPU_FLOAT32) return load4((const device float*)from + at);
  if (type == NPU_FLOAT16) return load4((const device half*)from + at);
  return load4((const device bfloat*)from + at);
}
inline void store_float(device char* to, int type, int64_t at, float x) {
  if (type == NPU_FLOAT32) {
    ((device float*)to)[at] = x;
  } else if (type == NPU_FLOAT16) {
    ((device half*)to)[at] = half(x);
  } else {
    ((device bfloat*)to)[at] = bfloat(x);
  }
}
inline void store_floats(device char* to, int type, int64_t at, float4 x) {
  if (type == NPU_FLOAT32) {
    store4((device float*)to + at, x);
  } else if (type == NPU_FLOAT16) {
    store4((device half*)to + at, x);
  } else {
    store4((device bfloat*)to + at, x);
  }
}
