// How products of few rows with a quantised right side are computed: its integers become floats in registers;
// see matmul_rows.h.
#pragma once

#include "matmul_rows.h"
#include "quantized.h"

template <int kWidth>
constexpr int step_bytes() {
  return kWidth == 6 ? kSixesStep : kQuantizedStep;
}

// step_bytes of a column, of which `bytes` are there: zeros follow.
template <int kWidth>
inline uint3 integers_at(const device uchar* q, int64_t bytes) {
  constexpr int kBytes = step_bytes<kWidth>();
  if (kRightAligned && bytes >= kBytes) {
    if (kWidth == 6) {
      const device uint* words = (const device uint*)q;
      return uint3(words[0], words[1], words[2]);
    }
    const uint2 words = *(const device uint2*)q;
    return uint3(words[0], words[1], 0u);
  }
  uint3 all = uint3(0);
  NPU_UNROLL
  for (int b = 0; b < kBytes; ++b) {
    if (b < bytes) all[b / 4] |= uint(q[b]) << (8 * (b % 4));
  }
  return all;
}

// Four of them from the i-th on, minus the middle. Signed ones become unsigned as their highest bits flip.
template <int kWidth>
inline float4 four_integers(uint3 all, int i) {
  constexpr int kMiddle = 1 << (kWidth - 1);
  constexpr uint kMask = (1u << kWidth) - 1u;
  constexpr uint kOnes = 1u | 1u << kWidth | 1u << (2 * kWidth) | 1u << (3 * kWidth);
  const int bit = i * kWidth, first = bit / 32, shift = bit % 32;
  uint word = all[first] >> shift;
  if (shift + 4 * kWidth > 32) word |= all[first + 1] << (32 - shift);
  if (kSigned) word ^= kOnes * uint(kMiddle);
  const uint4 four = uint4(word, word >> kWidth, word >> (2 * kWidth), word >> (3 * kWidth)) & kMask;
  return float4(int4(four) - kMiddle);
}

// What a lane multiplies of the left side: zeros beyond the depth.
template <typename Left>
inline float4 four_values(const thread Left& left, int r, int k, int depth) {
  if (k + 4 <= depth) return left.four(r, k);
  float4 values = float4(0.0f);
  NPU_UNROLL
  for (int i = 0; i < 4; ++i) {
    if (k + i < depth) values[i] = left.one(r, k + i);
  }
  return values;
}

// The columns of a simdgroup.
template <int kColumns>
struct QuantizedColumns {
  const device uchar* q[kColumns];
  int64_t scales[kColumns], offsets[kColumns], units[kColumns];

  QuantizedColumns(constant MatmulArgs& matmul, constant QuantizedArgs& lies, const device uchar* all,
                   Spot at) {
    NPU_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      const int64_t column = column_of<kColumns>(matmul, at, c);
      q[c] = all + lies.q_first + column * lies.q_column;
      scales[c] = lies.scale_first + column * lies.scale_column;
      offsets[c] = lies.offset_first + column * lies.offset_column;
      units[c] = lies.unit_first + column * lies.unit_column;
    }
  }
};

// What a step of a lane multiplies with.
template <int kColumns, int kWidth>
struct QuantizedStep {
  uint3 integers[kColumns];
  Factors factors[kColumns];

  void load(const thread QuantizedColumns<kColumns>& columns, constant QuantizedArgs& lies,
            FactorParts factor, int k, int depth) {
    const int bytes = (depth * kWidth + 7) / 8, byte = k * kWidth / 8, part = k / lies.group;
    const int unit = part / lies.unit * units_of_group();
    NPU_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      integers[c] = integers_at<kWidth>(columns.q[c] + byte, bytes - byte);
      factors[c] = factors_at(
          factor, {columns.scales[c] + part, columns.offsets[c] + part, columns.units[c] + unit, 1});
    }
  }
};

// kColumns columns of kRows rows for each simdgroup.
template <typename T, int kRows, int kColumns, int kWidth, typename Ready>
inline void multiply_quantized(constant MatmulArgs& matmul, constant QuantizedArgs& lies,
                               const thread Ready& ready, const device uchar* right, FactorParts factor,
                               Ends ends, RowOffsets of, threadgroup float* room, Spot at) {
  constexpr int kStep = step_bytes<kWidth>() * 8 / kWidth;  // elements
  const int depth = matmul.product.depth;
  const QuantizedColumns<kColumns> columns(matmul, lies, right, at);
  LaneSums<T, kRows, kColumns> sums;
  const int stride = stride_of_lanes<kStep>(matmul);
  int k = first_of_lane<kStep>(matmul, at);
  QuantizedStep<kColumns, kWidth> next;
  if (!kRightConstant) NPU_INPUTS_READY;
  if (k < depth) next.load(columns, lies, factor, k, depth);
  const typename Ready::Left left = ready();
  for (; k < depth; k += stride) {
    const QuantizedStep<kColumns, kWidth> step = next;
    if (k + stride < depth) next.load(columns, lies, factor, k + stride, depth);
    NPU_UNROLL
    for (int r = 0; r < kRows; ++r) {
      float parts[kColumns], total = 0.0f;
      NPU_UNROLL
      for (int c = 0; c < kColumns; ++c) parts[c] = 0.0f;
      NPU_UNROLL
      for (int i = 0; i < kStep; i += 4) {
        const float4 values = four_values(left, r, k + i, depth);
        total += dot(values, float4(1.0f));
        NPU_UNROLL
        for (int c = 0; c < kColumns; ++c)
          parts[c] += dot(values, four_integers<kWidth>(step.integers[c], i));
      }
      NPU_UNROLL
      for (int c = 0; c < kColumns; ++c)
        sums.of[r][c] += fma(step.factors[c].scale, parts[c], step.factors[c].shift * total);
    }
  }
  finish_k_major(matmul, sums, ends, of, room, at);
}

#define NPU_QUANTIZED_PARAMETERS                                      \
  const device char *scales [[buffer(kBufferQuantizedScales)]],       \
      const device char *offsets [[buffer(kBufferQuantizedOffsets)]], \
      const device char *units [[buffer(kBufferQuantizedUnits)]]

// The forms of a kernel, and its instances.
#define NPU_QUANTIZED(kernel, T, rows, columns, width)                                \
  template [[host_name(#kernel "_" #width "_" #rows "x" #columns "_" #T)]] [[kernel]] \
  decltype(kernel<T, rows, columns, width>) kernel<T, rows, columns, width>;
#define NPU_QUANTIZED_OF(kernel, T, columns, width) \
  NPU_QUANTIZED(kernel, T, 1, columns, width)       \
  NPU_QUANTIZED(kernel, T, 2, columns, width)       \
  NPU_QUANTIZED(kernel, T, 4, columns, width)       \
  NPU_QUANTIZED(kernel, T, 8, columns, width)
#define NPU_QUANTIZED_ALL(kernel, T) \
  NPU_QUANTIZED_OF(kernel, T, 1, 4)  \
  NPU_QUANTIZED_OF(kernel, T, 2, 4)  \
  NPU_QUANTIZED_OF(kernel, T, 4, 4)  \
  NPU_QUANTIZED_OF(kernel, T, 1, 6)  \
  NPU_QUANTIZED_OF(kernel, T, 2, 6)  \
  NPU_QUANTIZED_OF(kernel, T, 4, 6)  \
  NPU_QUANTIZED_OF(kernel, T, 1, 8)  \
  NPU_QUANTIZED_OF(kernel, T, 2, 8)  \
  NPU_QUANTIZED_OF(kernel, T, 4, 8)
