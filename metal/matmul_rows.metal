// Products with few rows: the right-hand side is read once, as it lies, and everything else follows its
// speed.
//
// "deep": the depth of a column is side by side, as in linear's weights. A simdgroup makes some columns, its
// lanes along the depth; simdgroups may share the depth of a column. "wide": columns are side by side. Lanes
// take columns, and the simdgroups of a threadgroup share the depth.
#include "epilogue.h"
#include "wide.h"

constant bool kLeftFours [[function_constant(10)]];     // the left side's depth is side by side
constant bool kRightAligned [[function_constant(11)]];  // 16 bytes of the right side may be loaded at once

constant constexpr int kSimdgroups = 8;

// 16 bytes of the right-hand side.
inline Wide<float> load_right(const device float* x) { return load_wide(x); }
template <typename T>
inline Wide<T> load_right(const device T* x) {
  if (kRightAligned) return load_wide(x);
  return {{load4(x), load4(x + 4)}};
}

template <typename T>
inline float4 left_four(const device T* x, int64_t step) {
  if (kLeftFours) return load4(x);
  return float4(float(x[0]), float(x[step]), float(x[2 * step]), float(x[3 * step]));
}

// What a lane adds up of kColumns columns and kRows rows.
template <typename T, int kRows, int kColumns>
struct LaneSums {
  float of[kRows][kColumns];

  LaneSums() {
    NPU_UNROLL
    for (int r = 0; r < kRows; ++r) {
      NPU_UNROLL
      for (int c = 0; c < kColumns; ++c) of[r][c] = 0.0f;
    }
  }

  // 16 bytes of each column, from `k` on.
  void add_step(const device T * thread * x, const device T * thread * w, int k, int64_t left_step) {
    Wide<T> weights[kColumns];
    NPU_UNROLL
    for (int c = 0; c < kColumns; ++c) weights[c] = load_right(w[c] + k);
    NPU_UNROLL
    for (int r = 0; r < kRows; ++r) {
      NPU_UNROLL
      for (int f = 0; f < Wide<T>::kFours; ++f) {
        const float4 values = left_four(x[r] + int64_t(k + 4 * f) * left_step, left_step);
        NPU_UNROLL
        for (int c = 0; c < kColumns; ++c) of[r][c] += dot(values, weights[c].at[f]);
      }
    }
  }

  void add_one(const device T * thread * x, const device T * thread * w, int k, int64_t left_step) {
    NPU_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const float value = float(x[r][int64_t(k) * left_step]);
      NPU_UNROLL
      for (int c = 0; c < kColumns; ++c) of[r][c] = fma(value, float(w[c][k]), of[r][c]);
    }
  }
};

// kColumns columns of kRows rows for each simdgroup. Of halves, neighbours make a result.
template <typename T, int kRows, int kColumns>
[[kernel]] void matmul_rows_deep(constant MatmulArgs& args [[buffer(0)]], const device T* left [[buffer(1)]],
                                 const device T* right [[buffer(2)]], NPU_ENDS,
                                 uint3 group [[threadgroup_position_in_grid]],
                                 uint thread_index [[thread_index_in_threadgroup]],
                                 uint simdgroup [[simdgroup_index_in_threadgroup]],
                                 uint lane [[thread_index_in_simdgroup]]) {
  threadgroup float room[kSimdgroups * kRows * kColumns];
  constexpr int kStep = 4 * Wide<T>::kFours;
  const int slices = args.slices, sets = kSimdgroups / slices;
  const int slice = int(simdgroup) % slices, set = int(simdgroup) / slices;
  const int columns = args.product.columns, depth = args.product.depth;
  const int rows = int(inner_of(args.product.rows));
  constexpr int kOfResult = kColumns % 2 == 0 ? 2 : 1;  // columns, of halves
  const int together = kHalves ? kOfResult : 1, made = sets * kColumns / together;
  const int first = int(group.x) * made;  // column of the threadgroup
  if (first >= columns || group.z >= uint(args.blocks)) return;
  const RowPlaces places = places_of_block(args.product, group.z);
  const device T* x[kRows];  // rows and columns that are not there repeat the last one
  const device T* w[kColumns];
  NPU_UNROLL
  for (int r = 0; r < kRows; ++r) {
    x[r] = left + places.of[NPU_LEFT] + int64_t(min(r, rows - 1)) * step_of(args.product.rows, NPU_LEFT);
  }
  NPU_UNROLL
  for (int c = 0; c < kColumns; ++c) {
    const int column = min(first + (set * kColumns + c) / together, columns - 1);
    w[c] = right + places.of[NPU_RIGHT] + (column + int64_t(c % together) * columns) * args.right_column;
  }
  LaneSums<T, kRows, kColumns> sums;
  const int stride = 32 * kStep * slices;
  for (int k = (slice * 32 + int(lane)) * kStep; k < depth; k += stride) {
    if (k + kStep <= depth) {
      sums.add_step(x, w, k, args.left_depth);
    } else {
      for (int i = k; i < depth; ++i) sums.add_one(x, w, i, args.left_depth);
    }
  }
  NPU_UNROLL
  for (int r = 0; r < kRows; ++r) {
    NPU_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      const float sum = simd_sum(sums.of[r][c]);
      if (lane == 0) room[(int(simdgroup) * kRows + r) * kColumns + c] = sum;
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const Ends ends = NPU_GATHER_ENDS;
  for (int i = int(thread_index); i < made * min(rows, kRows); i += kSimdgroups * 32) {
    const int r = i / made, c = i % made * together, column = first + i % made;
    if (column >= columns) continue;
    float sum = 0.0f, other = 0.0f;
    for (int s = 0; s < slices; ++s) {
      const int from = ((c / kColumns * slices + s) * kRows + r) * kColumns + c % kColumns;
      sum += room[from];
      if (kHalves) other += room[from + 1];
    }
    finish_one(sum, other, args.product, ends, places_of_row(args.product, places, r), column);
  }
}

// kColumns neighbouring columns of kRows rows for each lane: its part of their sums, from `w` on.
template <typename T, int kRows, int kColumns>
struct ColumnSums {
  float of[kRows][kColumns];

  // Of `many` columns.
  void add_all(constant MatmulArgs& args, const device T * thread * x, const device T* w, int first,
               int many) {
    NPU_UNROLL
    for (int r = 0; r < kRows; ++r) {
      NPU_UNROLL
      for (int c = 0; c < kColumns; ++c) of[r][c] = 0.0f;
    }
    for (int k = first; k < args.product.depth; k += kSimdgroups) {
      const device T* from = w + int64_t(k) * args.right_depth;
      float weights[kColumns];
      if (many >= kColumns) {
        NPU_UNROLL
        for (int c = 0; c < kColumns; ++c) weights[c] = float(from[c]);
      } else {
        NPU_UNROLL
        for (int c = 0; c < kColumns; ++c) weights[c] = c < many ? float(from[c]) : 0.0f;
      }
      NPU_UNROLL
      for (int r = 0; r < kRows; ++r) {
        const float value = float(x[r][int64_t(k) * args.left_depth]);
        NPU_UNROLL
        for (int c = 0; c < kColumns; ++c) of[r][c] = fma(value, weights[c], of[r][c]);
      }
    }
  }

  // What all simdgroups have of one row; each thread gets a column. `room` may be used again at once.
  float gather(threadgroup float* room, int row, int simdgroup, int lane) const {
    constexpr int kWidth = 32 * kColumns;
    NPU_UNROLL
    for (int c = 0; c < kColumns; ++c) room[simdgroup * kWidth + lane * kColumns + c] = of[row][c];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    const int mine = simdgroup * 32 + lane;
    float sum = 0.0f;
    for (int s = 0; s < kSimdgroups && mine < kWidth; ++s) sum += room[s * kWidth + mine];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    return sum;
  }
};

template <typename T, int kRows, int kColumns>
[[kernel]] void matmul_rows_wide(constant MatmulArgs& args [[buffer(0)]], const device T* left [[buffer(1)]],
                                 const device T* right [[buffer(2)]], NPU_ENDS,
                                 uint3 group [[threadgroup_position_in_grid]],
                                 uint simdgroup [[simdgroup_index_in_threadgroup]],
                                 uint lane [[thread_index_in_simdgroup]]) {
  threadgroup float room[kSimdgroups * 32 * kColumns];
  const int columns = args.product.columns, begin = int(group.x) * 32 * kColumns;
  const int rows = int(inner_of(args.product.rows));
  if (begin >= columns || group.z >= uint(args.blocks)) return;
  const RowPlaces places = places_of_block(args.product, group.z);
  const int column = begin + int(lane) * kColumns, many = columns - column;
  const device T* w = right + places.of[NPU_RIGHT] + (many > 0 ? column : 0);
  const device T* x[kRows];
  NPU_UNROLL
  for (int r = 0; r < kRows; ++r) {
    x[r] = left + places.of[NPU_LEFT] + int64_t(min(r, rows - 1)) * step_of(args.product.rows, NPU_LEFT);
  }
  ColumnSums<T, kRows, kColumns> sums, others;
  sums.add_all(args, x, w, int(simdgroup), many);
  if (kHalves) others.add_all(args, x, w + columns, int(simdgroup), many);
  const Ends ends = NPU_GATHER_ENDS;
  const int mine = int(simdgroup) * 32 + int(lane), target = begin + mine;
  NPU_UNROLL
  for (int r = 0; r < kRows; ++r) {
    const float sum = sums.gather(room, r, int(simdgroup), int(lane));
    const float other = kHalves ? others.gather(room, r, int(simdgroup), int(lane)) : 0.0f;
    if (mine < 32 * kColumns && target < columns && r < rows) {
      finish_one(sum, other, args.product, ends, places_of_row(args.product, places, r), target);
    }
  }
}

#define NPU_ROWS(kernel, T, rows, columns)                                 \
  template [[host_name(#kernel "_" #rows "x" #columns "_" #T)]] [[kernel]] \
  decltype(kernel<T, rows, columns>) kernel<T, rows, columns>;
#define NPU_ALL_ROWS(T)               \
  NPU_ROWS(matmul_rows_deep, T, 1, 1) \
  NPU_ROWS(matmul_rows_deep, T, 1, 2) \
  NPU_ROWS(matmul_rows_deep, T, 1, 4) \
  NPU_ROWS(matmul_rows_deep, T, 2, 1) \
  NPU_ROWS(matmul_rows_deep, T, 2, 2) \
  NPU_ROWS(matmul_rows_deep, T, 2, 4) \
  NPU_ROWS(matmul_rows_deep, T, 4, 1) \
  NPU_ROWS(matmul_rows_deep, T, 4, 2) \
  NPU_ROWS(matmul_rows_deep, T, 4, 4) \
  NPU_ROWS(matmul_rows_deep, T, 8, 1) \
  NPU_ROWS(matmul_rows_deep, T, 8, 2) \
  NPU_ROWS(matmul_rows_deep, T, 8, 4) \
  NPU_ROWS(matmul_rows_wide, T, 1, 1) \
  NPU_ROWS(matmul_rows_wide, T, 1, 4) \
  NPU_ROWS(matmul_rows_wide, T, 2, 1) \
  NPU_ROWS(matmul_rows_wide, T, 2, 4) \
  NPU_ROWS(matmul_rows_wide, T, 4, 1) \
  NPU_ROWS(matmul_rows_wide, T, 4, 4) \
  NPU_ROWS(matmul_rows_wide, T, 8, 1) \
  NPU_ROWS(matmul_rows_wide, T, 8, 4)
#if NPU_ONLY < 0 || NPU_ONLY == 0
NPU_ALL_ROWS(float)
#endif
#if NPU_ONLY < 0 || NPU_ONLY == 1
NPU_ALL_ROWS(half)
#endif
#if NPU_ONLY < 0 || NPU_ONLY == 2
NPU_ALL_ROWS(bfloat)
#endif
