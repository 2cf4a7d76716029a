// How products with few rows are computed: the right-hand side is read once, as it lies, and everything else
// follows its speed. The left side may lie anywhere.
//
// "deep": the depth of a column is side by side, as in linear's weights. A simdgroup makes some columns, its
// lanes along the depth; simdgroups may share the depth of a column. "wide": columns are side by side. Lanes
// take columns, and the simdgroups of a threadgroup share the depth.
#pragma once

#include "epilogue.h"
#include "wide.h"

// Where a thread is.
struct Spot {
  uint3 group;
  uint simdgroup, lane;
};

// The left side's depth is side by side.
constant bool kLeftFours [[function_constant(kFcMatmulRowsLeftFours)]];
// 16 bytes of the right side may be loaded at once.
constant bool kRightAligned [[function_constant(kFcMatmulRowsRightAligned)]];

// 16 bytes of the right-hand side.
inline Wide<float> load_right(const device float* x) { return load_wide(x); }
template <typename T>
inline Wide<T> load_right(const device T* x) {
  if (kRightAligned) return load_wide(x);
  return {{load4(x), load4(x + 4)}};
}

// The rows of the left side where they lie; those that are not there repeat the last one.
template <typename T, int kRows>
struct LyingRows {
  const device T* row[kRows];
  int64_t step;  // of the depth

  LyingRows(constant MatmulArgs& args, const device T* first) : step(args.left_depth) {
    const int last = int(inner_of(args.product.rows)) - 1;
    NPU_UNROLL
    for (int r = 0; r < kRows; ++r)
      row[r] = first + int64_t(min(r, last)) * step_of(args.product.rows, NPU_LEFT);
  }
  float one(int r, int k) const { return float(row[r][k * step]); }
  float4 four(int r, int k) const {
    if (kLeftFours) return load4(row[r] + k);
    return float4(one(r, k), one(r, k + 1), one(r, k + 2), one(r, k + 3));
  }
};

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
  template <typename Left>
  void add_step(const thread Left& left, const device T * thread * w, int k) {
    Wide<T> weights[kColumns];
    NPU_UNROLL
    for (int c = 0; c < kColumns; ++c) weights[c] = load_right(w[c] + k);
    NPU_UNROLL
    for (int r = 0; r < kRows; ++r) {
      NPU_UNROLL
      for (int f = 0; f < Wide<T>::kFours; ++f) {
        const float4 values = left.four(r, k + 4 * f);
        NPU_UNROLL
        for (int c = 0; c < kColumns; ++c) of[r][c] += dot(values, weights[c].at[f]);
      }
    }
  }

  template <typename Left>
  void add_one(const thread Left& left, const device T * thread * w, int k) {
    NPU_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const float value = left.one(r, k);
      NPU_UNROLL
      for (int c = 0; c < kColumns; ++c) of[r][c] = fma(value, float(w[c][k]), of[r][c]);
    }
  }
};

// Results of a threadgroup, of which each simdgroup makes kColumns columns. Of halves, two make a result.
template <int kColumns>
inline int deep_results(constant MatmulArgs& args) {
  return kStreamSimdgroups / args.slices * kColumns / (kHalves && kColumns % 2 == 0 ? 2 : 1);
}

template <int kColumns>
inline bool deep_is_beyond(constant MatmulArgs& args, uint3 group) {
  return int(group.x) * deep_results<kColumns>(args) >= args.product.columns || group.z >= uint(args.blocks);
}

// kColumns columns of kRows rows for each simdgroup; `room` has an element for each. Of halves, neighbours
// make a result.
template <typename T, int kRows, int kColumns, typename Left>
inline void multiply_deep(constant MatmulArgs& args, const thread Left& left, const device T* right,
                          Ends ends, RowPlaces places, threadgroup float* room, Spot at) {
  constexpr int kStep = 4 * Wide<T>::kFours;
  const int slices = args.slices;
  const int slice = int(at.simdgroup) % slices, set = int(at.simdgroup) / slices;
  const int columns = args.product.columns, depth = args.product.depth;
  const int rows = int(inner_of(args.product.rows));
  constexpr int kOfResult = kColumns % 2 == 0 ? 2 : 1;  // columns, of halves
  const int together = kHalves ? kOfResult : 1, made = deep_results<kColumns>(args);
  const int first = int(at.group.x) * made;  // column of the threadgroup
  const device T* w[kColumns];               // columns that are not there repeat the last one
  NPU_UNROLL
  for (int c = 0; c < kColumns; ++c) {
    const int column = min(first + (set * kColumns + c) / together, columns - 1);
    w[c] = right + places.of[NPU_RIGHT] + (column + int64_t(c % together) * columns) * args.right_column;
  }
  LaneSums<T, kRows, kColumns> sums;
  const int stride = int(kSimd) * kStep * slices;
  for (int k = (slice * int(kSimd) + int(at.lane)) * kStep; k < depth; k += stride) {
    if (k + kStep <= depth) {
      sums.add_step(left, w, k);
    } else {
      for (int i = k; i < depth; ++i) sums.add_one(left, w, i);
    }
  }
  NPU_UNROLL
  for (int r = 0; r < kRows; ++r) {
    NPU_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      const float sum = simd_sum(sums.of[r][c]);
      if (at.lane == 0) room[(int(at.simdgroup) * kRows + r) * kColumns + c] = sum;
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const int thread_index = int(at.simdgroup) * int(kSimd) + int(at.lane);
  for (int i = thread_index; i < made * min(rows, kRows); i += kStreamSimdgroups * int(kSimd)) {
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
  template <typename Left>
  void add_all(constant MatmulArgs& args, const thread Left& left, const device T* w, int first, int many) {
    NPU_UNROLL
    for (int r = 0; r < kRows; ++r) {
      NPU_UNROLL
      for (int c = 0; c < kColumns; ++c) of[r][c] = 0.0f;
    }
    for (int k = first; k < args.product.depth; k += kStreamSimdgroups) {
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
        const float value = left.one(r, k);
        NPU_UNROLL
        for (int c = 0; c < kColumns; ++c) of[r][c] = fma(value, weights[c], of[r][c]);
      }
    }
  }

  // What all simdgroups have of one row; each thread gets a column. `room` may be used again at once.
  float gather(threadgroup float* room, int row, int simdgroup, int lane) const {
    constexpr int kWidth = int(kSimd) * kColumns;
    NPU_UNROLL
    for (int c = 0; c < kColumns; ++c) room[simdgroup * kWidth + lane * kColumns + c] = of[row][c];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    const int mine = simdgroup * int(kSimd) + lane;
    float sum = 0.0f;
    for (int s = 0; s < kStreamSimdgroups && mine < kWidth; ++s) sum += room[s * kWidth + mine];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    return sum;
  }
};

template <int kColumns>
inline bool wide_is_beyond(constant MatmulArgs& args, uint3 group) {
  return int(group.x) * int(kSimd) * kColumns >= args.product.columns || group.z >= uint(args.blocks);
}

// kColumns columns of kRows rows for each lane; `room` has an element for each column of each simdgroup.
template <typename T, int kRows, int kColumns, typename Left>
inline void multiply_wide(constant MatmulArgs& args, const thread Left& left, const device T* right,
                          Ends ends, RowPlaces places, threadgroup float* room, Spot at) {
  const int columns = args.product.columns, begin = int(at.group.x) * int(kSimd) * kColumns;
  const int rows = int(inner_of(args.product.rows));
  const int lane = int(at.lane), simdgroup = int(at.simdgroup);
  const int column = begin + lane * kColumns, many = columns - column;
  const device T* w = right + places.of[NPU_RIGHT] + (many > 0 ? column : 0);
  ColumnSums<T, kRows, kColumns> sums, others;
  sums.add_all(args, left, w, simdgroup, many);
  if (kHalves) others.add_all(args, left, w + columns, simdgroup, many);
  const int mine = simdgroup * int(kSimd) + lane, target = begin + mine;
  NPU_UNROLL
  for (int r = 0; r < kRows; ++r) {
    const float sum = sums.gather(room, r, simdgroup, lane);
    const float other = kHalves ? others.gather(room, r, simdgroup, lane) : 0.0f;
    if (mine < int(kSimd) * kColumns && target < columns && r < rows) {
      finish_one(sum, other, args.product, ends, places_of_row(args.product, places, r), target);
    }
  }
}

// The forms of a kernel, and its instances: those that a library with a generated epilogue lacks are left
// out.
#define NPU_ROWS(kernel, T, rows, columns)                                 \
  template [[host_name(#kernel "_" #rows "x" #columns "_" #T)]] [[kernel]] \
  decltype(kernel<T, rows, columns>) kernel<T, rows, columns>;
#define NPU_ROWS_OF(kernel, T, columns) \
  NPU_ROWS(kernel, T, 1, columns)       \
  NPU_ROWS(kernel, T, 2, columns)       \
  NPU_ROWS(kernel, T, 4, columns)       \
  NPU_ROWS(kernel, T, 8, columns)
#define NPU_DEEP_AND_WIDE(deep, wide, T) \
  NPU_ROWS_OF(deep, T, 1)                \
  NPU_ROWS_OF(deep, T, 2)                \
  NPU_ROWS_OF(deep, T, 4)                \
  NPU_ROWS_OF(wide, T, 1)                \
  NPU_ROWS_OF(wide, T, 4)
