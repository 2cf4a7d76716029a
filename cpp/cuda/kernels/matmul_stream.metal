// Products of one row that lies ready in memory; see stream.h.
#include "stream.h"

// Gives a lane's part of the row once it is there.
template <typename T>
struct LyingPart {
  const device T* left;
  uint lane;

  RowPart<T> operator()(thread const Crew& crew) const {
    RowPart<T> row;
    NPU_INPUTS_READY;
    row.load(left + crew.begin, crew.bytes, lane);
    return row;
  }
};

template <typename T>
[[kernel]] void matmul_stream(
    constant MatmulArgs& args [[buffer(kBufferArgs)]], const device T* left [[buffer(kBufferLeft)]],
    const device T* right [[buffer(kBufferRight)]], NPU_ENDS, threadgroup char* rings [[threadgroup(0)]],
    uint3 group [[threadgroup_position_in_grid]], uint3 groups [[threadgroups_per_grid]],
    uint simdgroup [[simdgroup_index_in_threadgroup]], uint lane [[thread_index_in_simdgroup]]) {
  NPU_STREAM_ROOM
  const RowOffsets offsets = block_offsets(args.product, 0);
  const LyingPart<T> ready = {left + offsets.of[NPU_LEFT], lane};
  const Ends ends = NPU_GATHER_ENDS;
  const Spot spot = {group, simdgroup, lane};
  stream(args, ready, right, ends, offsets, room, spot, int(groups.x));
}

#if NPU_ONLY < 0 || NPU_ONLY == NPU_FLOAT32
NPU_INSTANTIATE(matmul_stream, float)
#endif
#if NPU_ONLY < 0 || NPU_ONLY == NPU_FLOAT16
NPU_INSTANTIATE(matmul_stream, half)
#endif
#if NPU_ONLY < 0 || NPU_ONLY == NPU_BFLOAT16
NPU_INSTANTIATE(matmul_stream, bfloat)
#endif
