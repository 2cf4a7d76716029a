// Integers of quantised rows, and what turns them into numbers.
#pragma once

#include "typed.h"

constant int kBits [[function_constant(kFcQuantizedBits)]];
constant bool kSigned [[function_constant(kFcQuantizedSigned)]];
constant int kOffset [[function_constant(kFcQuantizedOffset)]];  // QuantizedOffset
constant int kScaleType [[function_constant(kFcQuantizedScaleType)]];
constant int kOffsetType [[function_constant(kFcQuantizedOffsetType)]];

// The numbers of a group are scale * (integer - middle) + shift, where the middle of signed integers is 0.
struct Factors {
  float scale, shift;
};

inline Factors factors_at(const device char* scales, int64_t scale_at, const device char* offsets,
                          int64_t offset_at) {
  const float middle = kSigned ? 0.0f : float(1 << (kBits - 1));
  const float scale = load_float(scales, kScaleType, scale_at);
  if (QuantizedOffset(kOffset) == QuantizedOffset::kNone) return {scale, scale * middle};
  const float offset = load_float(offsets, kOffsetType, offset_at);
  if (QuantizedOffset(kOffset) == QuantizedOffset::kPoint) return {scale, scale * (middle - offset)};
  return {scale, fma(scale, middle, offset)};
}

// kQuantizedEach integers, of which `bytes` bytes are there.
inline ulong eight_integers(const device uchar* q, int64_t step, int64_t bytes) {
  ulong all = 0;
  for (int b = 0; b < kBits; ++b) all |= b < bytes ? ulong(q[b * step]) << (8 * b) : 0;
  return all;
}

// The i-th of them, minus the middle.
inline float centred(ulong all, int i) {
  const int middle = 1 << (kBits - 1);
  const int integer = int(all >> (kBits * i)) & ((1 << kBits) - 1);
  return float((kSigned ? integer ^ middle : integer) - middle);
}
