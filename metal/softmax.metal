// Softmax and its logarithm along one axis: short rows by a simdgroup each, long ones by a threadgroup.
#include "common.h"

constant bool kLog [[function_constant(0)]];

template <typename T>
inline float most_of_thread(const device T* x, int64_t step, int n, uint first, uint threads) {
  float most = -INFINITY;
  for (int i = int(first); i < n; i += int(threads)) most = nan_max(float(x[i * step]), most);
  return most;
}

template <typename T>
inline float sum_of_thread(const device T* x, int64_t step, int n, float most, uint first, uint threads) {
  float sum = 0.0f;
  for (int i = int(first); i < n; i += int(threads)) sum += precise::exp(float(x[i * step]) - most);
  return sum;
}

template <typename T>
inline void finish(const device T* x, device T* y, constant SoftmaxArgs& args, float most, float sum, uint first,
                   uint threads) {
  const float scale = 1.0f / sum;
  const float shift = kLog ? precise::log(sum) : 0.0f;
  for (int i = int(first); i < args.n; i += int(threads)) {
    const float above = float(x[i * args.x_step]) - most;
    y[i * args.y_step] = T(kLog ? above - shift : precise::exp(above) * scale);
  }
}

template <typename T>
[[kernel]] void softmax_simd(constant SoftmaxArgs& args [[buffer(0)]],
                             const device T* x [[buffer(1)]],
                             device T* y [[buffer(2)]],
                             uint group [[threadgroup_position_in_grid]],
                             uint simdgroup [[simdgroup_index_in_threadgroup]],
                             uint simdgroups [[simdgroups_per_threadgroup]],
                             uint lane [[thread_index_in_simdgroup]]) {
  const uint row = group * simdgroups + simdgroup;
  if (row >= uint(args.count)) return;  // the whole simdgroup leaves
  const Offsets2 at = walk(args.rows, row);
  const device T* from = x + at.second;
  const float most = simd_nan_max(most_of_thread(from, args.x_step, args.n, lane, kSimd));
  const float sum = simd_sum(sum_of_thread(from, args.x_step, args.n, most, lane, kSimd));
  finish(from, y + at.first, args, most, sum, lane, kSimd);
}

template <typename T>
[[kernel]] void softmax_group(constant SoftmaxArgs& args [[buffer(0)]],
                              const device T* x [[buffer(1)]],
                              device T* y [[buffer(2)]],
                              uint row [[threadgroup_position_in_grid]],
                              uint thread_index [[thread_index_in_threadgroup]],
                              uint threads [[threads_per_threadgroup]],
                              uint simdgroup [[simdgroup_index_in_threadgroup]],
                              uint simdgroups [[simdgroups_per_threadgroup]],
                              uint lane [[thread_index_in_simdgroup]]) {
  threadgroup float room[kSimd];
  if (row >= uint(args.count)) return;
  const Offsets2 at = walk(args.rows, row);
  const device T* from = x + at.second;
  const float own = simd_nan_max(most_of_thread(from, args.x_step, args.n, thread_index, threads));
  const float most = across_simdgroups(own, -INFINITY, SimdMax(), room, lane, simdgroup, simdgroups);
  const float part = simd_sum(sum_of_thread(from, args.x_step, args.n, most, thread_index, threads));
  const float sum = across_simdgroups(part, 0.0f, SimdSum(), room, lane, simdgroup, simdgroups);
  finish(from, y + at.first, args, most, sum, thread_index, threads);
}

NPU_INSTANTIATE_FLOATS(softmax_simd)
NPU_INSTANTIATE_FLOATS(softmax_group)
