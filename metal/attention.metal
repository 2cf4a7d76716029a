// Attention of many rows on simdgroup matrices: scores of a block of columns stay in the threadgroup, and the
// results are sums below the highest peak so far.
//
// A threadgroup makes some rows that share a head of k and v, eight for each simdgroup. Blocks of k and then
// of v are staged in its memory; blocks that none of the rows sees are left out. Few rows:
// attention_rows.metal.
#include "attention.h"
#include "stage.h"

constant bool kDenseQueries [[function_constant(kFcTilesDenseQueries)]];  // elements of a row are neighbours
constant bool kDenseKeys [[function_constant(kFcTilesDenseKeys)]];
constant bool kDenseValues [[function_constant(kFcTilesDenseValues)]];

template <typename T, int kWidth_, int kSimdgroups_, int kColumns_>
struct Tile {
  typedef T Element;
  static constant constexpr int kWidth = kWidth_;  // of heads, at most
  static constant constexpr int kSimdgroups = kSimdgroups_, kRows = kTileRows * kSimdgroups;
  static constant constexpr int kColumns = kColumns_;  // of a block
  static constant constexpr int kThreads = int(kSimd) * kSimdgroups;
  static constant constexpr int kPad = 16 / int(sizeof(T));  // keeps rows in different banks
  static constant constexpr int kStride = kWidth + kPad;
  static constant constexpr int kStaged = kRows * kStride;
  static_assert(kRows >= kColumns, "queries are staged in the memory of keys and values");
  static constant constexpr int kStripStride = kColumns + 4;  // of a simdgroup's scores, and then weights
  static constant constexpr int kStrip = 8 * kStripStride;
  static constant constexpr int kWeightStride = kStripStride * 4 / int(sizeof(T));
  static constant constexpr int kOfLane = kColumns / 4;  // columns: four lanes share a row
};

// int8 times the scales of their rows.
template <typename B>
inline void stage_int8(threadgroup typename B::Element* to, const device char* from, constant int64_t* step,
                       const device float* scales, int64_t scale_step, int rows, int width,
                       int thread_index) {
  typedef typename B::Element T;
  constexpr int kAcross = B::kWidth / 4;
  for (int i = thread_index; i < B::kColumns * kAcross; i += B::kThreads) {
    const int row = i / kAcross, column = i % kAcross * 4;
    vec<T, 4> value = vec<T, 4>(T(0.0f));
    if (row < rows && column < width) {
      const float scale = scales[row * scale_step];
      const device char* at = from + row * step[2] + column * step[3];
      for (int k = 0; k < 4; ++k) {
        if (column + k < width) value[k] = T(float(at[k * step[3]]) * scale);
      }
    }
    *(threadgroup vec<T, 4>*)(to + row * B::kStride + column) = value;
  }
}

// Stages some rows of k or v; what is not there is zero.
template <typename B>
inline void stage_rows(threadgroup typename B::Element* to, const device typename B::Element* from,
                       constant int64_t* step, const device float* scales, int64_t scale_step, int rows,
                       int width, bool dense, int thread_index) {
  typedef typename B::Element T;
  if (kInt8) {
    stage_int8<B>(to, (const device char*)from, step, scales, scale_step, rows, width, thread_index);
  } else if (dense) {
    stage_fours<T, B::kColumns, B::kWidth, B::kStride, B::kThreads>(to, from, step[2], rows, width,
                                                                    thread_index);
  } else {
    stage_any<T, B::kColumns, B::kWidth, B::kStride, B::kThreads>(to, from, step[2], step[3], rows, width,
                                                                  false, thread_index);
  }
}

template <typename B>
inline void stage_queries(threadgroup typename B::Element* to, const device typename B::Element* q,
                          constant AttentionArgs& args, int batch, int group, int first, int thread_index) {
  typedef typename B::Element T;
  constexpr int kAcross = B::kWidth / 4;
  for (int i = thread_index; i < B::kRows * kAcross; i += B::kThreads) {
    const int index = i / kAcross, column = i % kAcross * 4;
    vec<T, 4> value = vec<T, 4>(T(0.0f));
    if (first + index < args.rows * args.shared && column < args.width) {
      const device T* row = q + QueryRow(args, batch, group, first + index).q;
      if (kDenseQueries && column + 4 <= args.width) {
        value = four(row + column);
      } else {
        for (int k = 0; k < 4; ++k) {
          if (column + k < args.width) value[k] = row[(column + k) * args.q_step[3]];
        }
      }
    }
    *(threadgroup vec<T, 4>*)(to + index * B::kStride + column) = value;
  }
}

// The rows of a simdgroup. Four neighbouring lanes share one, and have its columns in turn.
template <typename B>
struct Strip {
  typedef typename B::Element T;
  simdgroup_matrix<T, 8, 8> queries[B::kWidth / 8];
  simdgroup_float8x8 sums[B::kWidth / 8];
  int rows_of[2];  // rows of a matrix in which this lane has its elements
  float most, total;
  int first, lane;          // row of the simdgroup among those that share a head
  int64_t mask_at, out_at;  // of the lane's row
  int row;
  bool there;
  Sight sight;

  void take(constant AttentionArgs& args, int batch, int group, int first_row, int lane_index) {
    const int rows = args.rows * args.shared, index = first_row + lane_index / 4;
    const QueryRow mine(args, batch, group, min(index, rows - 1));
    first = first_row;
    lane = lane_index;
    there = index < rows;
    mask_at = mine.mask;
    out_at = mine.out;
    row = mine.row;
    most = -INFINITY;
    total = 0.0f;
  }

  // The addends of a lane's columns; false: the block counts for nothing.
  bool look(constant AttentionArgs& args, const device char* mask, int batch, int group, int begin,
            thread float* addends) {
    bool seen = false, near = false;
    NPU_UNROLL
    for (int j = 0; j < B::kOfLane; ++j) {
      const int t = begin + lane % 4 * B::kOfLane + j;
      addends[j] = there ? addend_of<T>(args, mask, mask_at, row, t) : -INFINITY;
      seen = seen || addends[j] != -INFINITY;
      near = near || !(addends[j] <= kFarBelow);
    }
    if (!simd_any(seen)) return false;
    if (kMask < int(MaskKind::kFloat) || simd_any(near)) return true;
    bool spared = true;
    for (int r = 0; r < 8; ++r) {
      if (!simd_any(seen && lane / 4 == r)) continue;
      const QueryRow asked(args, batch, group, first + r);
      spared = sight.template spares<T>(args, mask, asked.mask, r, lane) && spared;
    }
    return !spared;
  }

  // Turns scores into weights, in place.
  void weigh(threadgroup float* scores, const thread float* addends, float scale) {
    const threadgroup float* from = scores + lane / 4 * B::kStripStride + lane % 4 * B::kOfLane;
    float weights[B::kOfLane];
    const float before = most;
    NPU_UNROLL
    for (int j = 0; j < B::kOfLane; ++j) {
      weights[j] = addends[j] == -INFINITY ? -INFINITY : from[j] * scale + addends[j];
      most = max(most, weights[j]);
    }
    most = max(most, simd_shuffle_xor(most, ushort(1)));
    most = max(most, simd_shuffle_xor(most, ushort(2)));
    simdgroup_barrier(mem_flags::mem_threadgroup);
    threadgroup T* to = (threadgroup T*)scores + lane / 4 * B::kWeightStride + lane % 4 * B::kOfLane;
    const float kept = kept_below(before, most);
    total *= kept;
    NPU_UNROLL
    for (int j = 0; j < B::kOfLane; ++j) {
      const float weight = weight_of(weights[j], most);
      total += weight;
      to[j] = T(weight);
    }
    const float kept_of[2] = {simd_shuffle(kept, ushort(4 * rows_of[0])),
                              simd_shuffle(kept, ushort(4 * rows_of[1]))};
    NPU_UNROLL
    for (int i = 0; i < B::kWidth / 8; ++i) {
      sums[i].thread_elements()[0] *= kept_of[0];
      sums[i].thread_elements()[1] *= kept_of[1];
    }
  }

  // Writes the results, as many columns at a time as the room has.
  void finish(constant AttentionArgs& args, device T* out, threadgroup float* room) {
    total += simd_shuffle_xor(total, ushort(1));
    total += simd_shuffle_xor(total, ushort(2));
    NPU_UNROLL
    for (int c = 0; c < B::kWidth; c += B::kColumns) {
      simdgroup_barrier(mem_flags::mem_threadgroup);
      NPU_UNROLL
      for (int i = 0; i < B::kColumns; i += 8) simdgroup_store(sums[(c + i) / 8], room + i, B::kStripStride);
      simdgroup_barrier(mem_flags::mem_threadgroup);
      const threadgroup float* from = room + lane / 4 * B::kStripStride;
      for (int i = lane % 4; i < B::kColumns && there; i += 4) {
        if (c + i < args.value_width) out[(c + i) * args.out_step[3]] = T(divided(from[i], total));
      }
    }
  }
};

// `room` has room for a matrix: what a lane has of one is read from it, as Metal does not say.
template <typename B>
inline void begin(thread Strip<B>& strip, const threadgroup typename B::Element* staged,
                  threadgroup float* room) {
  if (strip.lane < 8) {
    for (int c = 0; c < 8; ++c) room[strip.lane * B::kStripStride + c] = float(strip.lane);
  }
  simdgroup_barrier(mem_flags::mem_threadgroup);
  simdgroup_float8x8 numbers;
  simdgroup_load(numbers, room, B::kStripStride);
  strip.rows_of[0] = int(numbers.thread_elements()[0]);
  strip.rows_of[1] = int(numbers.thread_elements()[1]);
  simdgroup_barrier(mem_flags::mem_threadgroup);
  NPU_UNROLL
  for (int i = 0; i < B::kWidth / 8; ++i) {
    simdgroup_load(strip.queries[i], staged + i * 8, B::kStride);
    strip.sums[i] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
  }
}

// Adds a matrix to another one: sums of sums are more exact than long sums.
inline void add_matrix(thread simdgroup_float8x8& sum, thread simdgroup_float8x8& part) {
  sum.thread_elements()[0] += part.thread_elements()[0];
  sum.thread_elements()[1] += part.thread_elements()[1];
}

// For all to read after a barrier.
template <typename B>
inline void score(thread Strip<B>& strip, const threadgroup typename B::Element* keys,
                  threadgroup float* scores) {
  NPU_UNROLL
  for (int c = 0; c < B::kColumns; c += 8) {
    simdgroup_float8x8 even = make_filled_simdgroup_matrix<float, 8, 8>(0.0f), odd = even;
    NPU_UNROLL
    for (int i = 0; i < B::kWidth / 8; i += 2) {
      simdgroup_matrix<typename B::Element, 8, 8> columns, next;
      simdgroup_load(columns, keys + c * B::kStride + i * 8, B::kStride, ulong2(0), true);
      simdgroup_load(next, keys + c * B::kStride + i * 8 + 8, B::kStride, ulong2(0), true);
      simdgroup_multiply_accumulate(even, strip.queries[i], columns, even);
      simdgroup_multiply_accumulate(odd, strip.queries[i + 1], next, odd);
    }
    add_matrix(even, odd);
    simdgroup_store(even, scores + c, B::kStripStride);
  }
}

template <typename B>
inline void add_values(thread Strip<B>& strip, const threadgroup typename B::Element* weights,
                       const threadgroup typename B::Element* values) {
  typedef simdgroup_matrix<typename B::Element, 8, 8> Matrix;
  Matrix weight[B::kColumns / 8];
  NPU_UNROLL
  for (int c = 0; c < B::kColumns / 8; ++c) simdgroup_load(weight[c], weights + c * 8, B::kWeightStride);
  NPU_UNROLL
  for (int i = 0; i < B::kWidth / 8; ++i) {
    simdgroup_float8x8 part = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
    NPU_UNROLL
    for (int c = 0; c < B::kColumns / 8; ++c) {
      Matrix value;
      simdgroup_load(value, values + c * 8 * B::kStride + i * 8, B::kStride);
      simdgroup_multiply_accumulate(part, weight[c], value, part);
    }
    add_matrix(strip.sums[i], part);
  }
}

template <typename B>
[[kernel]] void attention(constant AttentionArgs& args [[buffer(kBufferArgs)]],
                          const device typename B::Element* q [[buffer(kBufferAttentionQ)]],
                          const device char* key_rows [[buffer(kBufferAttentionK)]],
                          const device char* value_rows [[buffer(kBufferAttentionV)]],
                          const device char* mask [[buffer(kBufferAttentionMask)]],
                          const device float* key_scales [[buffer(kBufferAttentionKeyScales)]],
                          const device float* value_scales [[buffer(kBufferAttentionValueScales)]],
                          device typename B::Element* out [[buffer(kBufferAttentionOut)]],
                          uint3 at [[threadgroup_position_in_grid]],
                          uint thread_at [[thread_index_in_threadgroup]],
                          uint simdgroup [[simdgroup_index_in_threadgroup]],
                          uint lane [[thread_index_in_simdgroup]]) {
  typedef typename B::Element T;
  threadgroup float4 memory[B::kStaged * int(sizeof(T)) / 16];
  threadgroup float strips[B::kSimdgroups * B::kStrip];
  threadgroup int seen_by[2 * B::kSimdgroups];
  threadgroup T* staged = (threadgroup T*)memory;
  const int rows = args.rows * args.shared, blocks = (rows + B::kRows - 1) / B::kRows;
  if (int(at.x) >= blocks || at.z >= uint(args.batch * args.groups)) return;
  const int index = (blocks - 1 - int(at.x)) * B::kRows;  // the last rows see most: they come first
  const int batch = int(at.z) / args.groups, group = int(at.z) - batch * args.groups;
  const int thread_index = int(thread_at);
  const device T* k = stored_at((const device T*)key_rows, batch * args.k_step[0] + group * args.k_step[1]);
  const device T* v = stored_at((const device T*)value_rows, batch * args.v_step[0] + group * args.v_step[1]);
  key_scales += batch * args.key_scale_step[0] + group * args.key_scale_step[1];
  value_scales += batch * args.value_scale_step[0] + group * args.value_scale_step[1];
  Strip<B> strip;
  strip.take(args, batch, group, index + 8 * int(simdgroup), int(lane));
  threadgroup float* room = strips + int(simdgroup) * B::kStrip;
  stage_queries<B>(staged, q, args, batch, group, index, thread_index);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  begin(strip, staged + 8 * int(simdgroup) * B::kStride, room);
  const int last = (min(index + B::kRows, rows) - 1) / args.shared;
  const int length = kCausal ? min(args.length, last + 1) : args.length;
  threadgroup int* seen = seen_by;  // two slots, in turn
  for (int first = 0; first < length; first += B::kColumns) {
    float addends[B::kOfLane];
    const bool counts = strip.look(args, mask, batch, group, first, addends);
    if (lane == 0) seen[simdgroup] = counts ? 1 : 0;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    int any = 0;
    for (int s = 0; s < B::kSimdgroups; ++s) any += seen[s];
    seen = seen == seen_by ? seen_by + B::kSimdgroups : seen_by;
    if (any == 0) continue;
    stage_rows<B>(staged, stored_at(k, first * args.k_step[2]), args.k_step,
                  key_scales + first * args.key_scale_step[2], args.key_scale_step[2], args.length - first,
                  args.width, kDenseKeys, thread_index);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (counts) score(strip, staged, room);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    stage_rows<B>(staged, stored_at(v, first * args.v_step[2]), args.v_step,
                  value_scales + first * args.value_scale_step[2], args.value_scale_step[2],
                  args.length - first, args.value_width, kDenseValues, thread_index);
    if (counts) strip.weigh(room, addends, args.scale);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (counts) add_values(strip, (const threadgroup T*)room, staged);
  }
  strip.finish(args, out + strip.out_at, room);
}

#define NPU_ATTENTION(T, width, ...)                            \
  template [[host_name("attention_" #width "_" #T)]] [[kernel]] \
  decltype(attention<Tile<T, width, __VA_ARGS__>>) attention<Tile<T, width, __VA_ARGS__>>;
#define NPU_ATTENTIONS(T)                   \
  NPU_ATTENTION(T, 32, kTileSimdgroups, 32) \
  NPU_ATTENTION(T, 64, kTileSimdgroups, 32) \
  NPU_ATTENTION(T, 96, kTileSimdgroups, 32) \
  NPU_ATTENTION(T, 128, kTileSimdgroups, 32)
NPU_ATTENTIONS(float)
NPU_ATTENTIONS(half)
NPU_ATTENTIONS(bfloat)
NPU_ATTENTION(float, 256, kWideTileSimdgroups, 16)
NPU_ATTENTION(half, 256, kTileSimdgroups, 32)
NPU_ATTENTION(bfloat, 256, kTileSimdgroups, 32)
