// Attention of few rows: keys and values are read once, as they lie, by all rows that share them.
#include "attention_rows.h"

// Any sizes and strides: a simdgroup makes a part of one row. Its lanes first have a column each, then
// elements of the result.

template <typename T>
inline float score_of(constant AttentionArgs& args, const device T* q, const device T* k) {
  float sums[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  int i = 0;
  for (; i + 4 <= args.width; i += 4) {
    NPU_UNROLL
    for (int j = 0; j < 4; ++j) {
      sums[j] = fma(float(q[(i + j) * args.q_step[3]]), stored(k, (i + j) * args.k_step[3]), sums[j]);
    }
  }
  for (; i < args.width; ++i)
    sums[0] = fma(float(q[i * args.q_step[3]]), stored(k, i * args.k_step[3]), sums[0]);
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])) * args.scale;
}

// Adds weighted values, lane by lane, to the sums of a lane's elements.
template <typename T>
inline void add_values(constant AttentionArgs& args, const device T* v, int first, float weight,
                       thread float* sums) {
  for (int j = 0; j < int(kSimd); ++j, v = stored_at(v, args.v_step[2])) {
    const float one = simd_shuffle(weight, ushort(j));
    if (one == 0.0f) continue;  // as those of columns that are not there are
    for (int i = 0; i < kAnyPartOfRow / int(kSimd); ++i) {
      const int e = first + i * int(kSimd);
      if (e < args.value_width) sums[i] = fma(one, stored(v, e * args.v_step[3]), sums[i]);
    }
  }
}

template <typename T>
[[kernel]] void attention_any(constant AttentionArgs& args [[buffer(kBufferArgs)]],
                              const device T* q [[buffer(kBufferAttentionQ)]],
                              const device char* key_rows [[buffer(kBufferAttentionK)]],
                              const device char* value_rows [[buffer(kBufferAttentionV)]],
                              const device char* mask [[buffer(kBufferAttentionMask)]],
                              const device float* key_scales [[buffer(kBufferAttentionKeyScales)]],
                              const device float* value_scales [[buffer(kBufferAttentionValueScales)]],
                              device T* out [[buffer(kBufferAttentionOut)]],
                              uint3 at [[threadgroup_position_in_grid]],
                              uint simdgroup [[simdgroup_index_in_threadgroup]],
                              uint simdgroups [[simdgroups_per_threadgroup]],
                              uint lane_index [[thread_index_in_simdgroup]]) {
  const int lane = int(lane_index), index = int(at.x * simdgroups + simdgroup);
  const int first = int(at.y) * kAnyPartOfRow + lane;
  if (index >= args.rows * args.shared || int(at.y) * kAnyPartOfRow >= args.value_width) return;
  if (at.z >= uint(args.batch * args.groups)) return;
  const int batch = int(at.z) / args.groups, group = int(at.z) - batch * args.groups;
  const QueryRow row(args, batch, group, index);
  const device T* k = stored_at((const device T*)key_rows, batch * args.k_step[0] + group * args.k_step[1]);
  const device T* v = stored_at((const device T*)value_rows, batch * args.v_step[0] + group * args.v_step[1]);
  key_scales += batch * args.key_scale_step[0] + group * args.key_scale_step[1];
  value_scales += batch * args.value_scale_step[0] + group * args.value_scale_step[1];
  float sums[kAnyPartOfRow / int(kSimd)] = {0.0f};
  float most = -INFINITY, total = 0.0f;
  for (int begin = 0; begin < args.length; begin += int(kSimd)) {
    if (kCausal && begin > row.row) break;
    const int t = begin + lane;
    const float addend = addend_of<T>(args, mask, row.mask, row.row, t);
    if (!simd_any(addend != -INFINITY)) continue;
    float score = -INFINITY;
    if (addend != -INFINITY) {
      score = score_of(args, q + row.q, stored_at(k, t * args.k_step[2]));
      score = score * row_scale(key_scales, t * args.key_scale_step[2]) + addend;
    }
    const float before = most;
    most = max(most, simd_max(score));
    const float weight = weight_of(score, most), kept = kept_below(before, most);
    total = total * kept + simd_sum(weight);
    for (int i = 0; i < kAnyPartOfRow / int(kSimd); ++i) sums[i] *= kept;
    const float scaled =
        weight == 0.0f ? 0.0f : weight * row_scale(value_scales, t * args.value_scale_step[2]);
    add_values(args, stored_at(v, begin * args.v_step[2]), first, scaled, sums);
  }
  for (int i = 0; i < kAnyPartOfRow / int(kSimd); ++i) {
    const int e = first + i * int(kSimd);
    if (e < args.value_width) out[row.out + e * args.out_step[3]] = T(divided(sums[i], total));
  }
}

// Heads of up to 256 elements: some rows that share a head of k and v, by the simdgroups of a threadgroup,
// which take turns at blocks of columns; and, of many columns, by several threadgroups.

// Rows of a threadgroup, as one of its simdgroups has them.
template <typename T, int kRows, int kVectors>
struct Rows {
  typedef Part<T, kVectors> P;
  typedef Loaded<T, kVectors> L;
  int64_t mask_at[kRows];
  int row[kRows];
  float4 sums[kRows][kVectors][Wide<T>::kFours];
  float most[kRows], total[kRows];
  Sight sight;

  Rows() {
    NPU_UNROLL
    for (int r = 0; r < kRows; ++r) {
      most[r] = -INFINITY;
      total[r] = 0.0f;
      NPU_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        NPU_UNROLL
        for (int f = 0; f < Wide<T>::kFours; ++f) sums[r][v][f] = float4(0.0f);
      }
    }
  }

  // The addends of a lane's column; false: the block counts for nothing.
  bool look(constant AttentionArgs& args, const device char* mask, int begin, int lane,
            thread float* addends) {
    bool seen = false, near = false;
    NPU_UNROLL
    for (int r = 0; r < kRows; ++r) {
      addends[r] = addend_of<T>(args, mask, mask_at[r], row[r], begin + lane);
      seen = seen || addends[r] != -INFINITY;
      near = near || !(addends[r] <= kFarBelow);
    }
    if (!simd_any(seen)) return false;
    if (kMask < int(MaskKind::kFloat) || simd_any(near)) return true;
    bool spared = true;
    NPU_UNROLL
    for (int r = 0; r < kRows; ++r) {
      spared = sight.spares<T>(args, mask, mask_at[r], r, lane) && spared;
    }
    return !spared;
  }

  // Turns scores into weights.
  void weigh(thread float* scores) {
    NPU_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const float before = most[r];
      most[r] = max(before, simd_max(scores[r]));
      const float kept = kept_below(before, most[r]);
      scores[r] = weight_of(scores[r], most[r]);
      total[r] = total[r] * kept + simd_sum(scores[r]);
      NPU_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        NPU_UNROLL
        for (int f = 0; f < Wide<T>::kFours; ++f) sums[r][v][f] *= kept;
      }
    }
  }

  // By the scale of the lane's column. What is not seen stays 0, whatever is there.
  void scale_weights(constant AttentionArgs& args, const device float* value_scales, int column,
                     thread float* weights) const {
    if (!kInt8) return;
    const float scale = value_scales[min(column, args.length - 1) * args.value_scale_step[2]];
    NPU_UNROLL
    for (int r = 0; r < kRows; ++r) weights[r] = weights[r] == 0.0f ? 0.0f : weights[r] * scale;
  }

  // Adds the values of some columns, each weighted for each row.
  void add_some(thread const L* values, int first, const thread float* weights) {
    NPU_UNROLL
    for (int j = 0; j < kTogether; ++j) {
      NPU_UNROLL
      for (int r = 0; r < kRows; ++r) {
        const float weight = simd_shuffle(weights[r], ushort(first + j));
        NPU_UNROLL
        for (int k = 0; k < kVectors; ++k) {
          const Wide<T> floats = values[j].floats(k, kWideValues && kInt8);
          NPU_UNROLL
          for (int f = 0; f < Wide<T>::kFours; ++f) {
            sums[r][k][f] = fma(float4(weight), floats.at[f], sums[r][k][f]);
          }
        }
      }
    }
  }

  void add_values(constant AttentionArgs& args, const device T* v, int begin, int lane,
                  const thread float* weights) {
    const int row_lane = lane % kValueLanes, first = lane - row_lane;
    bool used = false;  // the lane's column, by any row
    NPU_UNROLL
    for (int r = 0; r < kRows; ++r) used = used || weights[r] != 0.0f;
    constexpr int kSets = kRows <= 2 ? P::kSets : 1;
    for (int begin_of = 0; begin_of < kValueLanes; begin_of += kTogether * kSets) {
      L values[kSets][kTogether];
      NPU_UNROLL
      for (int n = 0; n < kSets; ++n) {
        const int i = begin_of + n * kTogether;
        if (i >= kValueLanes) continue;
        NPU_UNROLL
        for (int j = 0; j < kTogether; ++j) {
          const bool kept = simd_shuffle(used ? 1 : 0, ushort(first + i + j)) != 0;
          const int t = min(begin + first + i + j, args.length - 1);
          values[n][j].load(stored_at(v, t * args.v_step[2]), args.v_step[3], args.value_width, row_lane,
                            kWideValues, kept, kInt8);
        }
      }
      NPU_UNROLL
      for (int n = 0; n < kSets; ++n) {
        if (begin_of + n * kTogether < kValueLanes)
          add_some(values[n], first + begin_of + n * kTogether, weights);
      }
    }
  }

  // The lanes that shared columns add up what they have; the first of them write row `r`.
  void put_row(int r, int lane, threadgroup float* to) const {
    NPU_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      NPU_UNROLL
      for (int f = 0; f < Wide<T>::kFours; ++f) {
        float4 sum = sums[r][v][f];
        for (int mask = kValueLanes; mask < int(kSimd); mask *= 2) sum += simd_shuffle_xor(sum, ushort(mask));
        if (lane < kValueLanes) *(threadgroup float4*)(to + L::first_of(lane, v) + 4 * f) = sum;
      }
    }
  }
};

// The scores of a lane's column.
template <typename T, int kRows, int kVectors>
inline void score(constant AttentionArgs& args, const thread Part<T, kVectors>* queries, const device T* k,
                  const device float* key_scales, int begin, int lane, const thread float* addends,
                  thread float* scores) {
  const int row_lane = lane % kKeyLanes, first = begin + lane - row_lane;
  typedef Part<T, kVectors> P;
  constexpr int kSets = kRows <= 2 ? P::kSets : 1;
  for (int begin_of = 0; begin_of < kKeyLanes; begin_of += kTogether * kSets) {
    Loaded<T, kVectors> keys[kSets][kTogether];
    NPU_UNROLL
    for (int n = 0; n < kSets; ++n) {
      NPU_UNROLL
      for (int j = 0; j < kTogether; ++j) {
        const int t = min(first + begin_of + n * kTogether + j, args.length - 1);
        if (begin_of + n * kTogether < kKeyLanes)
          keys[n][j].load(stored_at(k, t * args.k_step[2]), args.k_step[3], args.width, row_lane, kWideKeys,
                          true, kInt8);
      }
    }
    NPU_UNROLL
    for (int n = 0; n < kSets; ++n) {
      const int i = begin_of + n * kTogether;
      if (i >= kKeyLanes) continue;
      NPU_UNROLL
      for (int r = 0; r < kRows; ++r) {
        float4 sums;
        NPU_UNROLL
        for (int j = 0; j < kTogether; ++j) sums[j] = queries[r].times(keys[n][j], kWideKeys && kInt8);
        const float sum = across_key_lanes(sums, lane);
        if (row_lane / kTogether == i / kTogether) scores[r] = sum;
      }
    }
  }
  const int column = min(begin + lane, args.length - 1);
  const float scale = args.scale * row_scale(key_scales, column * args.key_scale_step[2]);
  NPU_UNROLL
  for (int r = 0; r < kRows; ++r) {
    scores[r] = addends[r] == -INFINITY ? -INFINITY : scores[r] * scale + addends[r];
  }
}

// What the simdgroups of a threadgroup know of a row: their peaks, and what is left of the sums below them
// when there is one peak for all.
struct Shares {
  threadgroup float2* peaks;  // [row][simdgroup]
  threadgroup float* kept;

  float most(int row) const {
    float result = -INFINITY;
    for (int s = 0; s < kSimdgroups; ++s) result = max(result, peaks[row * kSimdgroups + s].x);
    return result;
  }
  void compare(int share) const { kept[share] = kept_below(peaks[share].x, most(share / kSimdgroups)); }

  float total(int row) const {
    float sum = 0.0f;
    for (int s = row * kSimdgroups; s < (row + 1) * kSimdgroups; ++s) sum += peaks[s].y * kept[s];
    return sum;
  }
  float sum(int row, const threadgroup float* values) const {
    float result = 0.0f;
    for (int s = 0; s < kSimdgroups; ++s) result += values[s * kWidest] * kept[row * kSimdgroups + s];
    return result;
  }
};

// Where results go to.
template <typename T>
struct Results {
  device T* out;
  device float* parts;   // [row][split][element]
  device float2* peaks;  // [row][split]

  void put(constant AttentionArgs& args, thread const QueryRow& row, int64_t part, int e, float sum,
           float2 peak) const {
    if (!kParts) {
      out[row.out + e * args.out_step[3]] = T(divided(sum, peak.y));
      return;
    }
    if (e == 0) peaks[part] = peak;
    parts[part * args.value_width + e] = sum;
  }
};

// Rows that are not there repeat the last one.
template <typename T, int kRows, int kVectors>
inline void take_rows(constant AttentionArgs& args, const device T* q, int batch, int group, int index,
                      int lane, thread Rows<T, kRows, kVectors>& rows, thread Part<T, kVectors>* queries) {
  NPU_UNROLL
  for (int r = 0; r < kRows; ++r) {
    const QueryRow row(args, batch, group, min(index + r, args.rows * args.shared - 1));
    Loaded<T, kVectors> query;
    query.load(q + row.q, args.q_step[3], args.width, lane % kKeyLanes, false, true);
    NPU_UNROLL
    for (int v = 0; v < kVectors; ++v) queries[r].of[v] = query.floats(v, false);
    rows.mask_at[r] = row.mask;
    rows.row[r] = row.row;
  }
}

// What the simdgroups have becomes results, or a part of them. `values` has room for one row.
template <typename T, int kRows, int kVectors>
inline void put_rows(constant AttentionArgs& args, Results<T> results, uint3 at,
                     thread const Rows<T, kRows, kVectors>& mine, threadgroup float* values, Shares shares,
                     int simdgroup, int lane) {
  const int index = int(at.x) * kRows, rows = args.rows * args.shared;
  const int batch = int(at.z) / args.groups, group = int(at.z) - batch * args.groups;
  const int thread_index = simdgroup * int(kSimd) + lane;
  NPU_UNROLL
  for (int r = 0; r < kRows; ++r) {
    if (lane == 0) shares.peaks[r * kSimdgroups + simdgroup] = float2(mine.most[r], mine.total[r]);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (thread_index < kRows * kSimdgroups) shares.compare(thread_index);
  NPU_UNROLL
  for (int r = 0; r < kRows; ++r) {
    mine.put_row(r, lane, values + simdgroup * kWidest);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (int e = thread_index; index + r < rows && e < args.value_width; e += kSimdgroups * int(kSimd)) {
      const int64_t part = (int64_t(at.z) * rows + index + r) * args.splits + at.y;
      const float2 peak = float2(shares.most(r), shares.total(r));
      results.put(args, QueryRow(args, batch, group, index + r), part, e, shares.sum(r, values + e), peak);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
}

template <typename T, int kRows, int kVectors>
[[kernel]] void attention_rows(
    constant AttentionArgs& args [[buffer(kBufferArgs)]], const device T* q [[buffer(kBufferAttentionQ)]],
    const device char* key_rows [[buffer(kBufferAttentionK)]],
    const device char* value_rows [[buffer(kBufferAttentionV)]],
    const device char* mask [[buffer(kBufferAttentionMask)]],
    const device float* key_scales [[buffer(kBufferAttentionKeyScales)]],
    const device float* value_scales [[buffer(kBufferAttentionValueScales)]],
    device T* out [[buffer(kBufferAttentionOut)]], device float* parts [[buffer(kBufferAttentionParts)]],
    device float2* peaks [[buffer(kBufferAttentionPeaks)]], uint3 at [[threadgroup_position_in_grid]],
    uint simdgroup [[simdgroup_index_in_threadgroup]], uint lane_index [[thread_index_in_simdgroup]]) {
  threadgroup float values[kFewRowsSimdgroups * kWidest];  // of one row
  threadgroup float2 shared_peaks[kRows * kFewRowsSimdgroups];
  threadgroup float kept[kRows * kFewRowsSimdgroups];
  const int lane = int(lane_index), index = int(at.x) * kRows, rows = args.rows * args.shared;
  if (index >= rows || at.y >= uint(args.splits) || at.z >= uint(args.batch * args.groups)) return;
  const int batch = int(at.z) / args.groups, group = int(at.z) - batch * args.groups;
  const device T* k = stored_at((const device T*)key_rows, batch * args.k_step[0] + group * args.k_step[1]);
  const device T* v = stored_at((const device T*)value_rows, batch * args.v_step[0] + group * args.v_step[1]);
  key_scales += batch * args.key_scale_step[0] + group * args.key_scale_step[1];
  value_scales += batch * args.value_scale_step[0] + group * args.value_scale_step[1];
  Rows<T, kRows, kVectors> mine;
  Part<T, kVectors> queries[kRows];
  take_rows<T, kRows, kVectors>(args, q, batch, group, index, lane, mine, queries);
  // Columns that are seen may be few, and lie together: they come to all threadgroups in turn.
  const int by = args.splits * kSimdgroups;
  for (int block = int(at.y) + args.splits * int(simdgroup); block * kFewRowsColumns < args.length;
       block += by) {
    const int begin = block * kFewRowsColumns;
    if (kCausal && begin > mine.row[kRows - 1]) break;
    float addends[kRows], scores[kRows];
    if (!mine.look(args, mask, begin, lane, addends)) continue;
    score<T, kRows, kVectors>(args, queries, k, key_scales, begin, lane, addends, scores);
    mine.weigh(scores);
    mine.scale_weights(args, value_scales, begin + lane, scores);
    mine.add_values(args, v, begin, lane, scores);
  }
  put_rows<T, kRows, kVectors>(args, {out, parts, peaks}, at, mine, values, {shared_peaks, kept},
                               int(simdgroup), lane);
}

// Joins what the threadgroups of a row left in the scratch.
template <typename T>
[[kernel]] void attention_join(constant AttentionArgs& args [[buffer(kBufferArgs)]],
                               const device float* parts [[buffer(kBufferAttentionParts)]],
                               const device float2* peaks [[buffer(kBufferAttentionPeaks)]],
                               device T* out [[buffer(kBufferAttentionOut)]],
                               uint2 at [[thread_position_in_grid]]) {
  const int e = int(at.x), rows = args.rows * args.shared;
  const int64_t row = at.y;
  if (e >= args.value_width || row >= int64_t(args.batch * args.groups) * rows) return;
  peaks += row * args.splits;
  parts += row * args.splits * args.value_width + e;
  float most = -INFINITY, total = 0.0f, sum = 0.0f;
  for (int s = 0; s < args.splits; ++s) most = max(most, peaks[s].x);
  constexpr int kAtOnce = 8;  // that are on their way
  for (int first = 0; first < args.splits; first += kAtOnce) {
    float2 peak[kAtOnce];
    float values[kAtOnce];
    NPU_UNROLL
    for (int k = 0; k < kAtOnce; ++k) {
      const int s = min(first + k, args.splits - 1);
      peak[k] = peaks[s];
      values[k] = parts[int64_t(s) * args.value_width];
    }
    NPU_UNROLL
    for (int k = 0; k < kAtOnce; ++k) {
      if (first + k >= args.splits || peak[k].y == 0.0f) continue;
      const float kept = kept_below(peak[k].x, most);
      total += peak[k].y * kept;
      sum += values[k] * kept;
    }
  }
  const int head = int(row / rows), batch = head / args.groups;
  const QueryRow query(args, batch, head - batch * args.groups, int(row - int64_t(head) * rows));
  out[query.out + e * args.out_step[3]] = T(divided(sum, total));
}

NPU_INSTANTIATE_FLOATS(attention_any)
NPU_INSTANTIATE_FLOATS(attention_join)

#define NPU_ATTENTION_ROWS(T, rows, vectors)                                     \
  template [[host_name("attention_rows_" #rows "x" #vectors "_" #T)]] [[kernel]] \
  decltype(attention_rows<T, rows, vectors>) attention_rows<T, rows, vectors>;
#define NPU_ALL_ATTENTION_ROWS(T, vectors) \
  NPU_ATTENTION_ROWS(T, 1, vectors)        \
  NPU_ATTENTION_ROWS(T, 2, vectors)        \
  NPU_ATTENTION_ROWS(T, 4, vectors)        \
  NPU_ATTENTION_ROWS(T, 8, vectors)
NPU_ALL_ATTENTION_ROWS(float, 1)
NPU_ALL_ATTENTION_ROWS(float, 2)
NPU_ALL_ATTENTION_ROWS(half, 1)
NPU_ALL_ATTENTION_ROWS(bfloat, 1)
