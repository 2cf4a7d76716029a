// What tiles of convolutions in groups share: vectors of channels, and what follows their sums.
#pragma once

#include "cpu/micro.h"
#include "cpu/micro/vec.h"

namespace npu::cpu::NPU_ISA {

namespace {

// Whether tiles are whole vectors of channels, or some, or pixels at the border too, which miss taps.
enum Form { kWhole, kPart, kBorder };

template <Form form>
inline F32 load_lanes(const float* p, std::int64_t n) {
  return form == kWhole ? load(p) : load_part(p, n);
}

// Adds what is to be added to sums, and stores them.
template <Form form, int pixels>
inline void finish(const GroupTile& t, F32 (&acc)[pixels]) {
  const std::int64_t n = t.channels, c_stride = t.c_stride, residual_stride = t.residual_stride;
  float* const c = t.c;
  if (t.accumulate) {
#pragma GCC unroll 16
    for (int i = 0; i < pixels; ++i) acc[i] += load_lanes<form>(c + i * c_stride, n);
  }
  if (t.bias) {
    const F32 bias = load_lanes<form>(t.bias, n);
#pragma GCC unroll 16
    for (int i = 0; i < pixels; ++i) acc[i] += bias;
  }
  if (const float* const residual = t.residual) {
#pragma GCC unroll 16
    for (int i = 0; i < pixels; ++i) acc[i] += load_lanes<form>(residual + i * residual_stride, n);
  }
  if (t.limits.apply) {
    const F32 low = all(t.limits.low), high = all(t.limits.high);
#pragma GCC unroll 16
    for (int i = 0; i < pixels; ++i) acc[i] = min_of(high, max_of(low, acc[i]));
  }
#pragma GCC unroll 16
  for (int i = 0; i < pixels; ++i) {
    if (form == kWhole) {
      store(c + i * c_stride, acc[i]);
    } else {
      store_part(c + i * c_stride, acc[i], n);
    }
  }
}

}  // namespace

}  // namespace npu::cpu::NPU_ISA
