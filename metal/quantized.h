// Integers of quantised rows, and what turns them into numbers.
#pragma once

#include "typed.h"

constant int kBits [[function_constant(kFcQuantizedBits)]];
constant bool kSigned [[function_constant(kFcQuantizedSigned)]];
constant int kOffset [[function_constant(kFcQuantizedOffset)]];  // QuantizedOffset
constant int kScaleType [[function_constant(kFcQuantizedScaleType)]];
constant int kOffsetType [[function_constant(kFcQuantizedOffsetType)]];
constant int kUnitType [[function_constant(kFcQuantizedUnitType)]];

// The numbers of a group are scale * (integer - middle) + shift, where the middle of signed integers is 0.
struct Factors {
  float scale, shift;
};

// Where what turns integers into numbers lies: for each group, and for each `unit` of them.
struct FactorParts {
  const device char *scales, *offsets, *units;
};
struct FactorSpots {
  int64_t scale, offset, unit, unit_step;
};

// A scale or an offset: a float, or a multiple of a unit.
inline float factor_at(const device char* from, int type, int64_t at, const device char* units,
                       int64_t unit_at) {
  if (kUnitType < 0) return load_float(from, type, at);
  return float(from[at]) * load_float(units, kUnitType, unit_at);
}

inline Factors factors_at(FactorParts of, FactorSpots at) {
  const float middle = kSigned ? 0.0f : float(1 << (kBits - 1));
  const float scale = factor_at(of.scales, kScaleType, at.scale, of.units, at.unit);
  if (QuantizedOffset(kOffset) == QuantizedOffset::kNone) return {scale, scale * middle};
  const float offset = factor_at(of.offsets, kOffsetType, at.offset, of.units, at.unit + at.unit_step);
  if (QuantizedOffset(kOffset) == QuantizedOffset::kPoint) return {scale, scale * (middle - offset)};
  return {scale, fma(scale, middle, offset)};
}

// How many units belong to the same groups: that of the scale, and that of the offset.
inline int units_of_group() { return QuantizedOffset(kOffset) == QuantizedOffset::kNone ? 1 : 2; }

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
