// Attention of few rows: keys and values are read once, as they lie, by all rows that share them.
#include "attention.h"
#include "wide.h"

// Any sizes and strides: a simdgroup makes a part of one row. Its lanes first have a column each, then
// elements of the result.
constant constexpr int kPartOfRow = 8 * int(kSimd);

template <typename T>
inline float score_of(constant AttentionArgs& args, const device T* q, const device T* k) {
  float sums[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  int i = 0;
  for (; i + 4 <= args.width; i += 4) {
    NPU_UNROLL
    for (int j = 0; j < 4; ++j) {
      sums[j] = fma(float(q[(i + j) * args.q_step[3]]), float(k[(i + j) * args.k_step[3]]), sums[j]);
    }
  }
  for (; i < args.width; ++i)
    sums[0] = fma(float(q[i * args.q_step[3]]), float(k[i * args.k_step[3]]), sums[0]);
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])) * args.scale;
}

// Adds weighted values, lane by lane, to the sums of a lane's elements.
template <typename T>
inline void add_values(constant AttentionArgs& args, const device T* v, int first, float weight, int count,
                       thread float* sums) {
  for (int j = 0; j < count; ++j, v += args.v_step[2]) {
    const float one = simd_shuffle(weight, ushort(j));
    if (one == 0.0f) continue;
    for (int i = 0; i < kPartOfRow / int(kSimd); ++i) {
      const int e = first + i * int(kSimd);
      if (e < args.value_width) sums[i] = fma(one, float(v[e * args.v_step[3]]), sums[i]);
    }
  }
}

template <typename T>
[[kernel]] void attention_any(constant AttentionArgs& args [[buffer(0)]], const device T* q [[buffer(1)]],
                              const device T* k [[buffer(2)]], const device T* v [[buffer(3)]],
                              const device char* mask [[buffer(4)]], device T* out [[buffer(5)]],
                              uint3 at [[threadgroup_position_in_grid]],
                              uint simdgroup [[simdgroup_index_in_threadgroup]],
                              uint simdgroups [[simdgroups_per_threadgroup]],
                              uint lane_index [[thread_index_in_simdgroup]]) {
  const int lane = int(lane_index), index = int(at.x * simdgroups + simdgroup);
  const int first = int(at.y) * kPartOfRow + lane;
  if (index >= args.rows * args.shared || int(at.y) * kPartOfRow >= args.value_width) return;
  if (at.z >= uint(args.batch * args.groups)) return;
  const int batch = int(at.z) / args.groups, group = int(at.z) - batch * args.groups;
  const QueryRow row(args, batch, group, index);
  k += batch * args.k_step[0] + group * args.k_step[1];
  v += batch * args.v_step[0] + group * args.v_step[1];
  float sums[kPartOfRow / int(kSimd)] = {0.0f};
  float most = -INFINITY, total = 0.0f;
  for (int begin = 0; begin < args.length; begin += int(kSimd)) {
    if (kCausal && begin > row.row) break;
    const int t = begin + lane;
    const float addend = addend_of<T>(args, mask, row.mask, row.row, t);
    if (!simd_any(addend != -INFINITY)) continue;
    float score = -INFINITY;
    if (addend != -INFINITY) score = score_of(args, q + row.q, k + t * args.k_step[2]) + addend;
    const float before = most;
    most = max(most, simd_max(score));
    const float weight = weight_of(score, most), kept = kept_below(before, most);
    total = total * kept + simd_sum(weight);
    for (int i = 0; i < kPartOfRow / int(kSimd); ++i) sums[i] *= kept;
    add_values(args, v + begin * args.v_step[2], first, weight, min(int(kSimd), args.length - begin), sums);
  }
  for (int i = 0; i < kPartOfRow / int(kSimd); ++i) {
    const int e = first + i * int(kSimd);
    if (e < args.value_width) out[row.out + e * args.out_step[3]] = T(divided(sums[i], total));
  }
}

NPU_INSTANTIATE_FLOATS(attention_any)
