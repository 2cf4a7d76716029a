// Products with few rows of a left side that is normalised on the way; see normed_rows.h.
#include "normed_rows.h"

template <typename T, int kRows, int kColumns>
[[kernel]] void matmul_rows_norm_k_major(constant NormedRowsArgs& args [[buffer(kBufferArgs)]],
                                         const device T* left [[buffer(kBufferLeft)]],
                                         const device T* right [[buffer(kBufferRight)]], NPU_ENDS,
                                         NPU_NORM_PARAMETERS, threadgroup T* normal [[threadgroup(0)]],
                                         uint3 group [[threadgroup_position_in_grid]],
                                         uint simdgroup [[simdgroup_index_in_threadgroup]],
                                         uint lane [[thread_index_in_simdgroup]]) {
  threadgroup float room[kStreamSimdgroups * kRows * kColumns];
  threadgroup Spread spreads[kStreamSimdgroups * kRows];
  if (k_major_is_beyond<kColumns>(args.matmul, group)) return;
  const RowOffsets offsets = block_offsets(args.matmul.product, group.z);
  const Spot spot = {group, simdgroup, lane};
  const NormalReady<T, kRows> rows = {normal,      spreads,   args, left + offsets.of[NPU_LEFT],
                                      norm_weight, norm_bias, spot};
  const Ends ends = NPU_GATHER_ENDS;
  multiply_k_major<T, kRows, kColumns>(args.matmul, rows, right, ends, offsets, room, spot);
}

template <typename T, int kRows, int kColumns>
[[kernel]] void matmul_rows_norm_n_major(constant NormedRowsArgs& args [[buffer(kBufferArgs)]],
                                         const device T* left [[buffer(kBufferLeft)]],
                                         const device T* right [[buffer(kBufferRight)]], NPU_ENDS,
                                         NPU_NORM_PARAMETERS, threadgroup T* normal [[threadgroup(0)]],
                                         uint3 group [[threadgroup_position_in_grid]],
                                         uint simdgroup [[simdgroup_index_in_threadgroup]],
                                         uint lane [[thread_index_in_simdgroup]]) {
  threadgroup float room[kStreamSimdgroups * int(kSimd) * kColumns];
  threadgroup Spread spreads[kStreamSimdgroups * kRows];
  if (n_major_is_beyond<kColumns>(args.matmul, group)) return;
  const RowOffsets offsets = block_offsets(args.matmul.product, group.z);
  const Spot spot = {group, simdgroup, lane};
  const NormalReady<T, kRows> ready = {normal,      spreads,   args, left + offsets.of[NPU_LEFT],
                                       norm_weight, norm_bias, spot};
  const NormalRows<T, kRows> rows = ready();
  const Ends ends = NPU_GATHER_ENDS;
  multiply_n_major<T, kRows, kColumns>(args.matmul, rows, right, ends, offsets, room, spot);
}

#if NPU_ONLY < 0 || NPU_ONLY == NPU_FLOAT32
NPU_K_AND_N_MAJOR(matmul_rows_norm_k_major, matmul_rows_norm_n_major, float)
#endif
#if NPU_ONLY < 0 || NPU_ONLY == NPU_FLOAT16
NPU_K_AND_N_MAJOR(matmul_rows_norm_k_major, matmul_rows_norm_n_major, half)
#endif
#if NPU_ONLY < 0 || NPU_ONLY == NPU_BFLOAT16
NPU_K_AND_N_MAJOR(matmul_rows_norm_k_major, matmul_rows_norm_n_major, bfloat)
#endif
