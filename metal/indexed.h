// Offsets that index operands choose: what gather and scatter share.
#pragma once

#include "nest.h"
#include "report.h"

constant int kAxes [[function_constant(kFcIndexedAxes)]];   // that are indexed
constant bool kWrap [[function_constant(kFcIndexedWrap)]];  // negative indices count from the end

constant constexpr int kOperands = 2 + NPU_MAX_INDICES;
static_assert(kBufferIndicesEnd == kBufferIndices + NPU_MAX_INDICES, "each index has a buffer");

// The index operands as parameters of a kernel; only as many exist as axes.
constant bool kTwo = kAxes > 1;
constant bool kThree = kAxes > 2;
constant bool kFour = kAxes > 3;
constant bool kFive = kAxes > 4;
constant bool kSix = kAxes > 5;
constant bool kSeven = kAxes > 6;
constant bool kEight = kAxes > 7;

#define NPU_INDICES                                                                          \
  const device char *indices0 [[buffer(kBufferIndices)]],                                    \
      const device char *indices1 [[buffer(kBufferIndices + 1), function_constant(kTwo)]],   \
      const device char *indices2 [[buffer(kBufferIndices + 2), function_constant(kThree)]], \
      const device char *indices3 [[buffer(kBufferIndices + 3), function_constant(kFour)]],  \
      const device char *indices4 [[buffer(kBufferIndices + 4), function_constant(kFive)]],  \
      const device char *indices5 [[buffer(kBufferIndices + 5), function_constant(kSix)]],   \
      const device char *indices6 [[buffer(kBufferIndices + 6), function_constant(kSeven)]], \
      const device char *indices7 [[buffer(kBufferIndices + 7), function_constant(kEight)]]

struct Indices {
  const device char* of[NPU_MAX_INDICES];
};

#define NPU_ALL_INDICES                                                                                \
  {                                                                                                    \
    {                                                                                                  \
      indices0, kTwo ? indices1 : indices0, kThree ? indices2 : indices0, kFour ? indices3 : indices0, \
          kFive ? indices4 : indices0, kSix ? indices5 : indices0, kSeven ? indices6 : indices0,       \
          kEight ? indices7 : indices0                                                                 \
    }                                                                                                  \
  }

inline int64_t load_index(const device char* from, int64_t at, IndexType type) {
  switch (type) {
    case IndexType::kByte:
      return int64_t(from[at]);
    case IndexType::kShort:
      return int64_t(((const device short*)from)[at]);
    case IndexType::kInt:
      return int64_t(((const device int*)from)[at]);
    case IndexType::kUnsignedByte:
      return int64_t(((const device uchar*)from)[at]);
    default:
      return ((const device int64_t*)from)[at];
  }
}

// Adds to `offset` what the indices at `at` say; false when one is out of range.
inline bool add_indexed(constant IndexedAxis* axes, Indices indices, Offsets<kOperands> at,
                        device Status* status, thread int64_t& offset) {
  for (int k = 0; k < kAxes; ++k) {
    const int64_t index = load_index(indices.of[k], at.of[2 + k], axes[k].type);
    const int64_t wrapped = kWrap && index < 0 ? index + axes[k].extent : index;
    if (wrapped < 0 || wrapped >= axes[k].extent) {
      report(status, axes[k].dimension, index);
      return false;
    }
    offset += wrapped * axes[k].step;
  }
  return true;
}
