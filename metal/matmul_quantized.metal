// Products of few rows with a quantised right side, of a left side that lies ready in memory; see
// matmul_quantized.h.
#include "matmul_quantized.h"

template <typename T, int kRows, int kColumns, int kWidth>
[[kernel]] void matmul_quantized(constant MatmulQuantizedArgs& args [[buffer(kBufferArgs)]],
                                 const device T* left [[buffer(kBufferLeft)]],
                                 const device uchar* right [[buffer(kBufferRight)]], NPU_ENDS,
                                 NPU_QUANTIZED_PARAMETERS, uint3 group [[threadgroup_position_in_grid]],
                                 uint simdgroup [[simdgroup_index_in_threadgroup]],
                                 uint lane [[thread_index_in_simdgroup]]) {
  threadgroup float room[kStreamSimdgroups * kRows * kColumns];
  if (k_major_is_beyond<kColumns>(args.matmul, group)) return;
  const RowOffsets of = block_offsets(args.matmul.product, group.z);
  const LyingReady<T, kRows> rows = {args.matmul, left + of.of[NPU_LEFT]};
  const Ends ends = NPU_GATHER_ENDS;
  const Spot spot = {group, simdgroup, lane};
  multiply_quantized<T, kRows, kColumns, kWidth>(args.matmul, args.right, rows, right,
                                                 {scales, offsets, units}, ends, of, room, spot);
}

#if NPU_ONLY < 0 || NPU_ONLY == NPU_FLOAT32
NPU_QUANTIZED_ALL(matmul_quantized, float)
#endif
#if NPU_ONLY < 0 || NPU_ONLY == NPU_FLOAT16
NPU_QUANTIZED_ALL(matmul_quantized, half)
#endif
#if NPU_ONLY < 0 || NPU_ONLY == NPU_BFLOAT16
NPU_QUANTIZED_ALL(matmul_quantized, bfloat)
#endif
