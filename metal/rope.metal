// Rotary positions: queries and keys are rotated, and keys and values written to their rows of the caches, in
// one launch. A simdgroup has one row of one head.
#include "report.h"

constant bool kInterleaved [[function_constant(kFcRopeInterleaved)]];
constant bool kCached [[function_constant(kFcRopeCached)]];      // rows of the outputs are chosen by an index
constant bool kFloatCos [[function_constant(kFcRopeFloatCos)]];  // else of the dtype of what is rotated
constant bool kFloatSin [[function_constant(kFcRopeFloatSin)]];

// A row among all of x, then of key, then of value.
struct RopeRow {
  int batch, head, row;

  RopeRow(constant RopeArgs& args, uint index, int heads) {
    row = int(index % uint(args.length));
    const uint rest = index / uint(args.length);
    head = int(rest % uint(heads));
    batch = int(rest / uint(heads));
  }
  int64_t at(constant int64_t* step, int row_of) const {
    return batch * step[0] + head * step[1] + row_of * step[2];
  }
};

template <typename T>
inline float factor_at(const device char* from, bool is_float, int64_t at) {
  return is_float ? ((const device float*)from)[at] : float(((const device T*)from)[at]);
}

// The factors of one row.
template <typename T>
struct Turn {
  const device char* cos;
  const device char* sin;
  int64_t cos_at, sin_at, cos_step, sin_step;

  float cos_of(int i) const { return factor_at<T>(cos, kFloatCos, cos_at + i * cos_step); }
  float sin_of(int i) const { return factor_at<T>(sin, kFloatSin, sin_at + i * sin_step); }
};

template <typename T>
inline void rotate_row(constant RopeArgs& args, const device T* x, int64_t step, device T* y, int64_t y_step,
                       Turn<T> turn, int lane) {
  const int half_of = args.rotated / 2;
  for (int pair = lane; pair < half_of; pair += int(kSimd)) {
    const int i = kInterleaved ? 2 * pair : pair, j = kInterleaved ? i + 1 : i + half_of;
    const float a = float(x[i * step]), b = float(x[j * step]);
    y[i * y_step] = T(a * turn.cos_of(i) - b * turn.sin_of(i));
    y[j * y_step] = T(b * turn.cos_of(j) + a * turn.sin_of(j));
  }
  for (int i = args.rotated + lane; i < args.width; i += int(kSimd)) y[i * y_step] = x[i * step];
}

// Where row `row` goes to; -1: nowhere, as its index is out of range or a later row has the same one.
inline int64_t target_row(constant RopeArgs& args, const device int64_t* index, device Status* status,
                          int row, int lane) {
  if (!kCached) return row;
  const int64_t target = index[row * args.index_step];
  if (target < 0 || target >= args.capacity) {
    report(status, 2, target);
    return -1;
  }
  bool again = false;
  for (int later = row + 1 + lane; later < args.length; later += int(kSimd)) {
    again = again || index[later * args.index_step] == target;
  }
  return simd_any(again) ? -1 : target;
}

template <typename T>
[[kernel]] void rope(
    constant RopeArgs& args [[buffer(kBufferArgs)]], const device T* x [[buffer(kBufferRopeX)]],
    const device char* cos [[buffer(kBufferRopeCos)]], const device char* sin [[buffer(kBufferRopeSin)]],
    const device T* key [[buffer(kBufferRopeKey)]], const device T* value [[buffer(kBufferRopeValue)]],
    const device int64_t* index [[buffer(kBufferRopeIndex)]], device T* out [[buffer(kBufferRopeOut)]],
    device T* key_out [[buffer(kBufferRopeKeyOut)]], device T* value_out [[buffer(kBufferRopeValueOut)]],
    device Status* status [[buffer(kBufferRopeStatus)]], uint group [[threadgroup_position_in_grid]],
    uint simdgroup [[simdgroup_index_in_threadgroup]], uint simdgroups [[simdgroups_per_threadgroup]],
    uint lane_index [[thread_index_in_simdgroup]]) {
  const int lane = int(lane_index);
  const uint rows = uint(args.batch) * uint(args.length);
  const uint queries = rows * uint(args.heads), keys = rows * uint(args.key_heads);
  uint at = group * simdgroups + simdgroup;
  if (at >= queries + keys + rows * uint(args.value_heads)) return;
  if (at >= queries + keys) {
    const RopeRow row(args, at - queries - keys, args.value_heads);
    const int64_t target = target_row(args, index, status, row.row, lane);
    if (target < 0) return;
    const device T* from = value + row.at(args.value_step, row.row);
    device T* to = value_out + row.at(args.value_out_step, 0) + target * args.value_out_step[2];
    for (int i = lane; i < args.value_width; i += int(kSimd)) {
      to[i * args.value_out_step[3]] = from[i * args.value_step[3]];
    }
    return;
  }
  const bool is_key = at >= queries;
  const RopeRow row(args, is_key ? at - queries : at, is_key ? args.key_heads : args.heads);
  const Turn<T> turn = {cos,
                        sin,
                        row.batch * args.cos_step[0] + row.row * args.cos_step[2],
                        row.batch * args.sin_step[0] + row.row * args.sin_step[2],
                        args.cos_step[3],
                        args.sin_step[3]};
  if (!is_key) {
    rotate_row(args, x + row.at(args.x_step, row.row), args.x_step[3], out + row.at(args.out_step, row.row),
               args.out_step[3], turn, lane);
    return;
  }
  const int64_t target = target_row(args, index, status, row.row, lane);
  if (target < 0) return;
  rotate_row(args, key + row.at(args.key_step, row.row), args.key_step[3],
             key_out + row.at(args.key_out_step, 0) + target * args.key_out_step[2], args.key_out_step[3],
             turn, lane);
}

NPU_INSTANTIATE_FLOATS(rope)
