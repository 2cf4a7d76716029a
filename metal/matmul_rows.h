// How products with few rows are computed: the right-hand side is read once, as it lies, and everything else
// follows its speed. The left side may lie anywhere.
//
// What is constant of the right-hand side is on its way before the left one is there: kernels get a `Ready`,
// which waits for it and gives its rows.
//
// k_major: the depth of a column is contiguous, as in linear's weights. A simdgroup makes a few columns, its
// lanes along the depth; several simdgroups may share the depth of a column. n_major: columns are contiguous.
// Lanes take columns, and the simdgroups of a threadgroup share the depth.
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
// No launch of the plan writes it, nor the weights of a norm.
constant bool kRightConstant [[function_constant(kFcMatmulRowsRightConstant)]];

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

// Gives them once they are there.
template <typename T, int kRows>
struct LyingReady {
  typedef LyingRows<T, kRows> Left;
  constant MatmulArgs& args;
  const device T* first;

  Left operator()() const {
    NPU_INPUTS_READY;
    return Left(args, first);
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
    add_loaded(left, weights, k);
  }

  template <typename Left>
  void add_loaded(const thread Left& left, const thread Wide<T>* weights, int k) {
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

// Results of a threadgroup, of which each simdgroup makes kColumns columns. Gated, two columns make a result.
template <int kColumns>
inline int results_per_group(constant MatmulArgs& args) {
  return kStreamSimdgroups / args.simdgroups_per_column * kColumns / (kGated && kColumns % 2 == 0 ? 2 : 1);
}

template <int kColumns>
inline bool k_major_is_beyond(constant MatmulArgs& args, uint3 group) {
  return int(group.x) * results_per_group<kColumns>(args) >= args.product.columns ||
         group.z >= uint(args.blocks);
}

// The c-th column of the right side that a simdgroup multiplies; those that are not there repeat the last
// one. Gated, neighbours make a result.
template <int kColumns>
inline int64_t column_of(constant MatmulArgs& args, Spot at, int c) {
  constexpr int kOfResult = kColumns % 2 == 0 ? 2 : 1;  // columns, when gated
  const int columns_per_result = kGated ? kOfResult : 1, columns = args.product.columns;
  const int first = int(at.group.x) * results_per_group<kColumns>(args);  // of the threadgroup
  const int set = int(at.simdgroup) / args.simdgroups_per_column;
  const int column = min(first + (set * kColumns + c) / columns_per_result, columns - 1);
  return column + int64_t(c % columns_per_result) * columns;
}

// The first element of the depth for a lane that takes kStep at once, and the distance to its next ones.
template <int kStep>
inline int first_of_lane(constant MatmulArgs& args, Spot at) {
  return (int(at.simdgroup) % args.simdgroups_per_column * int(kSimd) + int(at.lane)) * kStep;
}
template <int kStep>
inline int stride_of_lanes(constant MatmulArgs& args) {
  return int(kSimd) * kStep * args.simdgroups_per_column;
}

// Adds up what the lanes have, and finishes the results of the threadgroup; `room` has an element for each
// column and row of each simdgroup.
template <typename T, int kRows, int kColumns>
inline void finish_k_major(constant MatmulArgs& args, const thread LaneSums<T, kRows, kColumns>& sums,
                           Ends ends, RowOffsets offsets, threadgroup float* room, Spot at) {
  constexpr int kOfResult = kColumns % 2 == 0 ? 2 : 1;
  const int columns_per_result = kGated ? kOfResult : 1, results = results_per_group<kColumns>(args);
  const int columns = args.product.columns, sharers = args.simdgroups_per_column;
  const int rows = int(inner_of(args.product.rows)), first = int(at.group.x) * results;
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
  for (int i = thread_index; i < results * min(rows, kRows); i += kStreamSimdgroups * int(kSimd)) {
    const int r = i / results, c = i % results * columns_per_result, column = first + i % results;
    if (column >= columns) continue;
    float sum = 0.0f, other = 0.0f;
    for (int s = 0; s < sharers; ++s) {
      const int from = ((c / kColumns * sharers + s) * kRows + r) * kColumns + c % kColumns;
      sum += room[from];
      if (kGated) other += room[from + 1];
    }
    finish_one(sum, other, args.product, ends, row_offsets(args.product, offsets, r), column);
  }
}

// 16 bytes of each column in some steps of a lane, which are loaded before they are wanted.
template <typename T, int kColumns, int kSteps>
struct Ahead {
  static constant constexpr int kStep = 4 * Wide<T>::kFours;
  uint4 raw[kSteps][kColumns];

  // For step `s`; nothing where the depth ends in what is loaded.
  void load(const device T * thread * w, int s, int k, int depth) {
    if (k + kStep > depth) return;
    NPU_UNROLL
    for (int c = 0; c < kColumns; ++c) raw[s][c] = *(const device uint4*)(w[c] + k);
  }
  void take(int s, thread Wide<T>* weights) const {
    NPU_UNROLL
    for (int c = 0; c < kColumns; ++c) weights[c] = wide_of(raw[s][c], T(0.0f));
  }
};

// Adds up the steps of a lane, some of which are always on their way.
template <typename T, int kRows, int kColumns, typename Ready>
inline void add_stream(thread LaneSums<T, kRows, kColumns>& sums, const thread Ready& ready,
                       const device T * thread * w, int begin, int stride, int depth) {
  constexpr int kStep = 4 * Wide<T>::kFours, kSteps = kRows >= 4 ? 1 : 8 / kColumns;
  Ahead<T, kColumns, kSteps> ahead;
  if (!kRightConstant) NPU_INPUTS_READY;
  NPU_UNROLL
  for (int s = 0; s < kSteps; ++s) ahead.load(w, s, begin + s * stride, depth);
  const typename Ready::Left left = ready();
  for (int first = begin; first < depth; first += kSteps * stride) {
    NPU_UNROLL
    for (int s = 0; s < kSteps; ++s) {
      const int k = first + s * stride;
      if (k + kStep <= depth) {
        Wide<T> weights[kColumns];
        ahead.take(s, weights);
        ahead.load(w, s, k + kSteps * stride, depth);
        sums.add_loaded(left, weights, k);
      } else {
        for (int i = k; i < depth; ++i) sums.add_one(left, w, i);
      }
    }
  }
}

// The same where 16 bytes cannot be loaded at once.
template <typename T, int kRows, int kColumns, typename Ready>
inline void add_steps(thread LaneSums<T, kRows, kColumns>& sums, const thread Ready& ready,
                      const device T * thread * w, int begin, int stride, int depth) {
  constexpr int kStep = 4 * Wide<T>::kFours;
  const typename Ready::Left left = ready();
  for (int k = begin; k < depth; k += stride) {
    if (k + kStep <= depth) {
      sums.add_step(left, w, k);
    } else {
      for (int i = k; i < depth; ++i) sums.add_one(left, w, i);
    }
  }
}

// kColumns columns of kRows rows for each simdgroup.
template <typename T, int kRows, int kColumns, typename Ready>
inline void multiply_k_major(constant MatmulArgs& args, const thread Ready& ready, const device T* right,
                             Ends ends, RowOffsets offsets, threadgroup float* room, Spot at) {
  constexpr int kStep = 4 * Wide<T>::kFours;
  const int depth = args.product.depth;
  const device T* w[kColumns];
  NPU_UNROLL
  for (int c = 0; c < kColumns; ++c)
    w[c] = right + offsets.of[NPU_RIGHT] + column_of<kColumns>(args, at, c) * args.right_column;
  LaneSums<T, kRows, kColumns> sums;
  const int begin = first_of_lane<kStep>(args, at), stride = stride_of_lanes<kStep>(args);
  if (kRightAligned) {
    add_stream(sums, ready, w, begin, stride, depth);
  } else {
    add_steps(sums, ready, w, begin, stride, depth);
  }
  finish_k_major(args, sums, ends, offsets, room, at);
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
inline bool n_major_is_beyond(constant MatmulArgs& args, uint3 group) {
  return int(group.x) * int(kSimd) * kColumns >= args.product.columns || group.z >= uint(args.blocks);
}

// kColumns columns of kRows rows for each lane; `room` has an element for each column of each simdgroup.
template <typename T, int kRows, int kColumns, typename Left>
inline void multiply_n_major(constant MatmulArgs& args, const thread Left& left, const device T* right,
                             Ends ends, RowOffsets offsets, threadgroup float* room, Spot at) {
  const int columns = args.product.columns, begin = int(at.group.x) * int(kSimd) * kColumns;
  const int rows = int(inner_of(args.product.rows));
  const int lane = int(at.lane), simdgroup = int(at.simdgroup);
  const int column = begin + lane * kColumns, many = columns - column;
  const device T* w = right + offsets.of[NPU_RIGHT] + (many > 0 ? column : 0);
  ColumnSums<T, kRows, kColumns> sums, others;
  sums.add_all(args, left, w, simdgroup, many);
  if (kGated) others.add_all(args, left, w + columns, simdgroup, many);
  const int mine = simdgroup * int(kSimd) + lane, target = begin + mine;
  NPU_UNROLL
  for (int r = 0; r < kRows; ++r) {
    const float sum = sums.gather(room, r, simdgroup, lane);
    const float other = kGated ? others.gather(room, r, simdgroup, lane) : 0.0f;
    if (mine < int(kSimd) * kColumns && target < columns && r < rows) {
      finish_one(sum, other, args.product, ends, row_offsets(args.product, offsets, r), target);
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
#define NPU_K_AND_N_MAJOR(k_major, n_major, T) \
  NPU_ROWS_OF(k_major, T, 1)                   \
  NPU_ROWS_OF(k_major, T, 2)                   \
  NPU_ROWS_OF(k_major, T, 4)                   \
  NPU_ROWS_OF(n_major, T, 1)                   \
  NPU_ROWS_OF(n_major, T, 4)
