// Products of one row that an RMS norm makes normal on the way; see stream.h. Its weight is of the row's
// dtype, or there is none.
#include "normed_rows.h"
#include "stream.h"

// Gives a lane's part of the row once it is there, and normal. The threadgroup measures the row together.
template <typename T>
struct NormalPart {
  constant NormedRowsArgs& args;
  const device T* left;
  const device T* weight;
  threadgroup Exact* room;  // of simdgroups
  Spot at;

  // The sum of squares.
  Exact measure() const {
    constexpr int kEach = kVectorBytes / int(sizeof(T));
    Exact squares = exact(0.0f);
    for (int i = (int(at.simdgroup) * int(kSimd) + int(at.lane)) * kEach; i < args.matmul.product.depth;
         i += kStreamSimdgroups * int(kSimd) * kEach) {
      const Wide<T> values = load_wide(left + i);
      NPU_UNROLL
      for (int f = 0; f < Wide<T>::kFours; ++f) {
        NPU_UNROLL
        for (int e = 0; e < 4; ++e) {
          const Exact x = exact(values.at[f][e]);
          squares = plus(squares, times(x, x));
        }
      }
    }
    squares = across_lanes<Sum<float>>(squares);
    if (at.lane == 0) room[at.simdgroup] = squares;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    squares = room[int(at.lane) % kStreamSimdgroups];
    NPU_UNROLL
    for (int mask = kStreamSimdgroups / 2; mask > 0; mask /= 2)
      squares = plus(squares, moved(squares, ShuffleXor{ushort(mask)}));
    return squares;
  }

  RowPart<T> operator()(thread const Crew& crew) const {
    RowPart<T> row, weights;
    if (kHasNormWeight) weights.load(weight + crew.begin, crew.bytes, at.lane);
    NPU_INPUTS_READY;
    row.load(left + crew.begin, crew.bytes, at.lane);
    const Spread spread = {exact(0.0f), measure()};
    const Normal normal = normal_of(spread, 0.0f, float(args.matmul.product.depth), args.eps, true);
    NPU_UNROLL
    for (int v = 0; v < kMostStreamVectors; ++v) {
      if (v >= kStreamVectors || !RowPart<T>::has(v, crew.bytes, at.lane)) continue;
      Wide<T> values = wide_of(row.at[v], T(0.0f));
      NPU_UNROLL
      for (int f = 0; f < Wide<T>::kFours; ++f) {
        NPU_UNROLL
        for (int e = 0; e < 4; ++e) values.at[f][e] = normal.of(values.at[f][e]);
        if (kHasNormWeight) values.at[f] *= wide_of(weights.at[v], T(0.0f)).at[f];
      }
      row.at[v] = raw_of(values, T(0.0f));
    }
    return row;
  }
};

template <typename T>
[[kernel]] void matmul_stream_norm(constant NormedRowsArgs& args [[buffer(kBufferArgs)]],
                                   const device T* left [[buffer(kBufferLeft)]],
                                   const device T* right [[buffer(kBufferRight)]], NPU_ENDS,
                                   NPU_NORM_PARAMETERS, threadgroup char* rings [[threadgroup(0)]],
                                   uint3 group [[threadgroup_position_in_grid]],
                                   uint3 groups [[threadgroups_per_grid]],
                                   uint simdgroup [[simdgroup_index_in_threadgroup]],
                                   uint lane [[thread_index_in_simdgroup]]) {
  NPU_STREAM_ROOM
  threadgroup Exact squares[kStreamSimdgroups];
  const RowOffsets offsets = block_offsets(args.matmul.product, 0);
  const Spot spot = {group, simdgroup, lane};
  const NormalPart<T> ready = {args, left + offsets.of[NPU_LEFT], (const device T*)norm_weight, squares,
                               spot};
  const Ends ends = NPU_GATHER_ENDS;
  stream(args.matmul, ready, right, ends, offsets, room, spot, int(groups.x));
}

#if NPU_ONLY < 0 || NPU_ONLY == NPU_FLOAT32
NPU_INSTANTIATE(matmul_stream_norm, float)
#endif
#if NPU_ONLY < 0 || NPU_ONLY == NPU_FLOAT16
NPU_INSTANTIATE(matmul_stream_norm, half)
#endif
#if NPU_ONLY < 0 || NPU_ONLY == NPU_BFLOAT16
NPU_INSTANTIATE(matmul_stream_norm, bfloat)
#endif
