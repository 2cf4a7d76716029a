// Products of few rows with a quantised right side, of a left side that is normalised on the way; see
// matmul_quantized.h and normed_rows.h.
#include "matmul_quantized.h"
#include "normed_rows.h"

template <typename T, int kRows, int kColumns, int kWidth>
[[kernel]] void matmul_quantized_norm(constant NormedQuantizedArgs& args [[buffer(kBufferArgs)]],
                                      const device T* left [[buffer(kBufferLeft)]],
                                      const device uchar* right [[buffer(kBufferRight)]], NPU_ENDS,
                                      NPU_NORM_PARAMETERS, NPU_QUANTIZED_PARAMETERS,
                                      threadgroup T* normal [[threadgroup(0)]],
                                      uint3 group [[threadgroup_position_in_grid]],
                                      uint simdgroup [[simdgroup_index_in_threadgroup]],
                                      uint lane [[thread_index_in_simdgroup]]) {
  threadgroup float room[kStreamSimdgroups * kRows * kColumns];
  threadgroup Spread spreads[kStreamSimdgroups * kRows];
  if (k_major_is_beyond<kColumns>(args.rows.matmul, group)) return;
  const RowOffsets of = block_offsets(args.rows.matmul.product, group.z);
  const Spot spot = {group, simdgroup, lane};
  const NormalReady<T, kRows> rows = {normal,      spreads,   args.rows, left + of.of[NPU_LEFT],
                                      norm_weight, norm_bias, spot};
  const Ends ends = NPU_GATHER_ENDS;
  multiply_quantized<T, kRows, kColumns, kWidth>(args.rows.matmul, args.right, rows, right,
                                                 {scales, offsets, units}, ends, of, room, spot);
}

#if NPU_ONLY < 0 || NPU_ONLY == NPU_FLOAT32
NPU_QUANTIZED_ALL(matmul_quantized_norm, float)
#endif
#if NPU_ONLY < 0 || NPU_ONLY == NPU_FLOAT16
NPU_QUANTIZED_ALL(matmul_quantized_norm, half)
#endif
#if NPU_ONLY < 0 || NPU_ONLY == NPU_BFLOAT16
NPU_QUANTIZED_ALL(matmul_quantized_norm, bfloat)
#endif
