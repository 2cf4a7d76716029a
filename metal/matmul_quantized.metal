// Products of few rows with a quantised right side, whose integers become floats in registers; see
// matmul_rows.h.
#include "matmul_rows.h"
#include "quantized.h"

// kQuantizedStep bytes of a column, of which `bytes` are there: zeros follow.
inline uint2 integers_at(const device uchar* q, int64_t bytes) {
  if (kRightAligned && bytes >= kQuantizedStep) return *(const device uint2*)q;
  uint2 all = uint2(0);
  NPU_UNROLL
  for (int b = 0; b < kQuantizedStep; ++b) {
    if (b < bytes) all[b / 4] |= uint(q[b]) << (8 * (b % 4));
  }
  return all;
}

// Four of them from the i-th on, minus the middle. Signed ones become unsigned as their highest bits flip.
template <int kWidth>
inline float4 four_integers(uint2 all, int i) {
  constexpr int kMiddle = 1 << (kWidth - 1);
  constexpr uint kMask = (1u << kWidth) - 1u, kOnes = kWidth == 4 ? 0x11111111u : 0x01010101u;
  constexpr int kInWord = 32 / kWidth;
  const uint word = (all[i / kInWord] ^ (kSigned ? kOnes * uint(kMiddle) : 0u)) >> (i % kInWord * kWidth);
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
  int64_t scales[kColumns], offsets[kColumns];

  QuantizedColumns(constant MatmulQuantizedArgs& args, const device uchar* all, Spot at) {
    NPU_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      const int64_t column = column_of<kColumns>(args.matmul, at, c);
      q[c] = all + args.right.q_first + column * args.right.q_column;
      scales[c] = args.right.scale_first + column * args.right.scale_column;
      offsets[c] = args.right.offset_first + column * args.right.offset_column;
    }
  }
};

template <typename T, int kRows, int kColumns, int kWidth>
[[kernel]] void matmul_quantized(constant MatmulQuantizedArgs& args [[buffer(kBufferArgs)]],
                                 const device T* left [[buffer(kBufferLeft)]],
                                 const device uchar* right [[buffer(kBufferRight)]], NPU_ENDS,
                                 const device char* scales [[buffer(kBufferQuantizedScales)]],
                                 const device char* offsets [[buffer(kBufferQuantizedOffsets)]],
                                 uint3 group [[threadgroup_position_in_grid]],
                                 uint simdgroup [[simdgroup_index_in_threadgroup]],
                                 uint lane [[thread_index_in_simdgroup]]) {
  constexpr int kStep = kQuantizedStep * 8 / kWidth;  // elements
  threadgroup float room[kStreamSimdgroups * kRows * kColumns];
  if (k_major_is_beyond<kColumns>(args.matmul, group)) return;
  const RowOffsets at = block_offsets(args.matmul.product, group.z);
  const LyingRows<T, kRows> rows(args.matmul, left + at.of[NPU_LEFT]);
  const Spot spot = {group, simdgroup, lane};
  const int depth = args.matmul.product.depth, bytes = (depth * kWidth + 7) / 8;
  const QuantizedColumns<kColumns> columns(args, right, spot);
  LaneSums<T, kRows, kColumns> sums;
  for (int k = first_of_lane<kStep>(args.matmul, spot); k < depth; k += stride_of_lanes<kStep>(args.matmul)) {
    const int byte = k * kWidth / 8, part = k / args.right.group;
    uint2 integers[kColumns];
    Factors factors[kColumns];
    NPU_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      integers[c] = integers_at(columns.q[c] + byte, bytes - byte);
      factors[c] = factors_at(scales, columns.scales[c] + part, offsets, columns.offsets[c] + part);
    }
    NPU_UNROLL
    for (int r = 0; r < kRows; ++r) {
      float parts[kColumns], total = 0.0f;
      NPU_UNROLL
      for (int c = 0; c < kColumns; ++c) parts[c] = 0.0f;
      NPU_UNROLL
      for (int i = 0; i < kStep; i += 4) {
        const float4 values = four_values(rows, r, k + i, depth);
        total += dot(values, float4(1.0f));
        NPU_UNROLL
        for (int c = 0; c < kColumns; ++c) parts[c] += dot(values, four_integers<kWidth>(integers[c], i));
      }
      NPU_UNROLL
      for (int c = 0; c < kColumns; ++c)
        sums.of[r][c] += fma(factors[c].scale, parts[c], factors[c].shift * total);
    }
  }
  const Ends ends = NPU_GATHER_ENDS;
  finish_k_major(args.matmul, sums, ends, at, room, spot);
}

#define NPU_QUANTIZED(T, rows, columns, width)                                                \
  template [[host_name("matmul_quantized_" #width "_" #rows "x" #columns "_" #T)]] [[kernel]] \
  decltype(matmul_quantized<T, rows, columns, width>) matmul_quantized<T, rows, columns, width>;
#define NPU_QUANTIZED_OF(T, columns, width) \
  NPU_QUANTIZED(T, 1, columns, width)       \
  NPU_QUANTIZED(T, 2, columns, width)       \
  NPU_QUANTIZED(T, 4, columns, width)       \
  NPU_QUANTIZED(T, 8, columns, width)
#define NPU_QUANTIZED_ALL(T) \
  NPU_QUANTIZED_OF(T, 1, 4)  \
  NPU_QUANTIZED_OF(T, 2, 4)  \
  NPU_QUANTIZED_OF(T, 4, 4)  \
  NPU_QUANTIZED_OF(T, 1, 8)  \
  NPU_QUANTIZED_OF(T, 2, 8)  \
  NPU_QUANTIZED_OF(T, 4, 8)
#if NPU_ONLY < 0 || NPU_ONLY == NPU_FLOAT32
NPU_QUANTIZED_ALL(float)
#endif
#if NPU_ONLY < 0 || NPU_ONLY == NPU_FLOAT16
NPU_QUANTIZED_ALL(half)
#endif
#if NPU_ONLY < 0 || NPU_ONLY == NPU_BFLOAT16
NPU_QUANTIZED_ALL(bfloat)
#endif
