// Products with few rows of a left side that lies ready in memory; see matmul_rows.h.
#include "matmul_rows.h"

template <typename T, int kRows, int kColumns>
[[kernel]] void matmul_rows_deep(constant MatmulArgs& args [[buffer(kBufferArgs)]],
                                 const device T* left [[buffer(kBufferLeft)]],
                                 const device T* right [[buffer(kBufferRight)]], NPU_ENDS,
                                 uint3 group [[threadgroup_position_in_grid]],
                                 uint simdgroup [[simdgroup_index_in_threadgroup]],
                                 uint lane [[thread_index_in_simdgroup]]) {
  threadgroup float room[kStreamSimdgroups * kRows * kColumns];
  if (deep_is_beyond<kColumns>(args, group)) return;
  const RowPlaces places = places_of_block(args.product, group.z);
  const LyingRows<T, kRows> rows(args, left + places.of[NPU_LEFT]);
  const Ends ends = NPU_GATHER_ENDS;
  const Spot spot = {group, simdgroup, lane};
  multiply_deep<T, kRows, kColumns>(args, rows, right, ends, places, room, spot);
}

template <typename T, int kRows, int kColumns>
[[kernel]] void matmul_rows_wide(constant MatmulArgs& args [[buffer(kBufferArgs)]],
                                 const device T* left [[buffer(kBufferLeft)]],
                                 const device T* right [[buffer(kBufferRight)]], NPU_ENDS,
                                 uint3 group [[threadgroup_position_in_grid]],
                                 uint simdgroup [[simdgroup_index_in_threadgroup]],
                                 uint lane [[thread_index_in_simdgroup]]) {
  threadgroup float room[kStreamSimdgroups * int(kSimd) * kColumns];
  if (wide_is_beyond<kColumns>(args, group)) return;
  const RowPlaces places = places_of_block(args.product, group.z);
  const LyingRows<T, kRows> rows(args, left + places.of[NPU_LEFT]);
  const Ends ends = NPU_GATHER_ENDS;
  const Spot spot = {group, simdgroup, lane};
  multiply_wide<T, kRows, kColumns>(args, rows, right, ends, places, room, spot);
}

#if NPU_ONLY < 0 || NPU_ONLY == NPU_FLOAT32
NPU_DEEP_AND_WIDE(matmul_rows_deep, matmul_rows_wide, float)
#endif
#if NPU_ONLY < 0 || NPU_ONLY == NPU_FLOAT16
NPU_DEEP_AND_WIDE(matmul_rows_deep, matmul_rows_wide, half)
#endif
#if NPU_ONLY < 0 || NPU_ONLY == NPU_BFLOAT16
NPU_DEEP_AND_WIDE(matmul_rows_deep, matmul_rows_wide, bfloat)
#endif
