// Blocks of matrices brought to threadgroup memory.
#pragma once

#include "map.h"

// Stages kRows x kColumns of a matrix whose columns are neighbours; what lies beyond its end is zero.
template <typename T, int kRows, int kColumns, int kStride, int kThreads>
inline void stage_fours(threadgroup T* to, const device T* from, int64_t row_step, int rows, int columns,
                        int thread_index) {
  constexpr int kAcross = kColumns / 4;
  for (int i = thread_index; i < kRows * kAcross; i += kThreads) {
    const int row = i / kAcross, column = i % kAcross * 4;
    const device T* at = from + int64_t(row) * row_step + column;
    vec<T, 4> value = vec<T, 4>(T(0.0f));
    if (row < rows && column + 4 <= columns) {
      value = four(at);
    } else if (row < rows) {
      for (int k = 0; k < 4; ++k) {
        if (column + k < columns) value[k] = at[k];
      }
    }
    *(threadgroup vec<T, 4>*)(to + row * kStride + column) = value;
  }
}

// The same with any steps. Neighbouring threads take neighbouring columns, or rows where `down` is set.
template <typename T, int kRows, int kColumns, int kStride, int kThreads>
inline void stage_any(threadgroup T* to, const device T* from, int64_t row_step, int64_t column_step,
                      int rows, int columns, bool down, int thread_index) {
  for (int i = thread_index; i < kRows * kColumns; i += kThreads) {
    const int row = down ? i % kRows : i / kColumns, column = down ? i / kRows : i % kColumns;
    const bool inside = row < rows && column < columns;
    to[row * kStride + column] =
        inside ? from[int64_t(row) * row_step + int64_t(column) * column_step] : T(0.0f);
  }
}
