// Rows that are computed together: who shares one, and rows that are kept in registers.
#pragma once

#include "fold.h"

// How rows are shared: each by a thread, a simdgroup or a threadgroup (RowShare).
constant int kShare [[function_constant(kFcRowsShare)]];

// Where a thread is.
struct Seat {
  uint row;
  uint index;    // of the thread, of those that share the row
  uint threads;  // that share it
  uint lane, simdgroup, simdgroups;
};

inline Seat seat_of(uint group, uint simdgroup, uint simdgroups, uint lane) {
  const uint thread_at = simdgroup * kSimd + lane, threads = simdgroups * kSimd;
  switch (RowShare(kShare)) {
    case RowShare::kThread:
      return {group * threads + thread_at, 0, 1, lane, simdgroup, simdgroups};
    case RowShare::kSimdgroup:
      return {group * simdgroups + simdgroup, lane, kSimd, lane, simdgroup, simdgroups};
    default:
      return {group, thread_at, threads, lane, simdgroup, simdgroups};
  }
}

// All that share a row get the same.
template <typename Fold>
inline typename Fold::Acc across_row(typename Fold::Acc a, threadgroup typename Fold::Acc* room, Seat seat) {
  switch (RowShare(kShare)) {
    case RowShare::kThread:
      return a;
    case RowShare::kSimdgroup:
      return across_lanes<Fold>(a);
    default:
      return across_group<Fold>(a, room, seat.lane, seat.simdgroup, seat.simdgroups);
  }
}

// A dense row in registers: each thread keeps some vectors of four neighbours.
constant int kVectors [[function_constant(kFcRowsVectors)]];  // of a thread

inline uint element_of(Seat seat, int vector) {
  return kRowVector * (seat.index + uint(vector) * seat.threads);
}

// The vectors of a thread; what is beyond the n elements of the row is `beyond`.
template <typename T>
inline void load_row(const device T* x, uint n, Seat seat, float beyond, thread float4* row) {
  for (int v = 0; v < kMostRowVectors; ++v) {
    const uint i = element_of(seat, v);
    row[v] = float4(beyond);
    if (v >= kVectors || i >= n) continue;
    if (i + 4 <= n) {
      row[v] = load4(x + i);
    } else {
      row[v].x = float(x[i]);
      if (i + 1 < n) row[v].y = float(x[i + 1]);
      if (i + 2 < n) row[v].z = float(x[i + 2]);
    }
  }
}

// Four elements at i of a row of n.
template <typename T>
inline void store_some(device T* y, uint i, uint n, float4 value) {
  if (i + 4 <= n) return store4(y + i, value);
  y[i] = T(value.x);
  if (i + 1 < n) y[i + 1] = T(value.y);
  if (i + 2 < n) y[i + 2] = T(value.z);
}
