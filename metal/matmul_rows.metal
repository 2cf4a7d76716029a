// Products with few rows of a left side that lies ready in memory; see matmul_rows.h.
#include "matmul_rows.h"

template <typename T, int kRows, int kColumns>
[[kernel]] void matmul_rows_k_major(constant MatmulArgs& args [[buffer(kBufferArgs)]],
                                    const device T* left [[buffer(kBufferLeft)]],
                                    const device T* right [[buffer(kBufferRight)]], NPU_ENDS,
                                    uint3 group [[threadgroup_position_in_grid]],
                                    uint simdgroup [[simdgroup_index_in_threadgroup]],
                                    uint lane [[thread_index_in_simdgroup]]) {
  threadgroup float room[kStreamSimdgroups * kRows * kColumns];
  if (k_major_is_beyond<kColumns>(args, group)) return;
  const RowOffsets offsets = block_offsets(args.product, group.z);
  const LyingReady<T, kRows> rows = {args, left + offsets.of[NPU_LEFT]};
  const Ends ends = NPU_GATHER_ENDS;
  const Spot spot = {group, simdgroup, lane};
  multiply_k_major<T, kRows, kColumns>(args, rows, right, ends, offsets, room, spot);
}

template <typename T, int kRows, int kColumns>
[[kernel]] void matmul_rows_n_major(constant MatmulArgs& args [[buffer(kBufferArgs)]],
                                    const device T* left [[buffer(kBufferLeft)]],
                                    const device T* right [[buffer(kBufferRight)]], NPU_ENDS,
                                    uint3 group [[threadgroup_position_in_grid]],
                                    uint simdgroup [[simdgroup_index_in_threadgroup]],
                                    uint lane [[thread_index_in_simdgroup]]) {
  threadgroup float room[kStreamSimdgroups * int(kSimd) * kColumns];
  if (n_major_is_beyond<kColumns>(args, group)) return;
  NPU_INPUTS_READY;
  const RowOffsets offsets = block_offsets(args.product, group.z);
  const LyingRows<T, kRows> rows(args, left + offsets.of[NPU_LEFT]);
  const Ends ends = NPU_GATHER_ENDS;
  const Spot spot = {group, simdgroup, lane};
  multiply_n_major<T, kRows, kColumns>(args, rows, right, ends, offsets, room, spot);
}

#if NPU_ONLY < 0 || NPU_ONLY == NPU_FLOAT32
NPU_K_AND_N_MAJOR(matmul_rows_k_major, matmul_rows_n_major, float)
#endif
#if NPU_ONLY < 0 || NPU_ONLY == NPU_FLOAT16
NPU_K_AND_N_MAJOR(matmul_rows_k_major, matmul_rows_n_major, half)
#endif
#if NPU_ONLY < 0 || NPU_ONLY == NPU_BFLOAT16
NPU_K_AND_N_MAJOR(matmul_rows_k_major, matmul_rows_n_major, bfloat)
#endif
