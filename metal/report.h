// How kernels report an index that is out of range.
#pragma once

#include "common.h"

// Only the first report is kept.
inline void report(device Status* status, int dimension, int64_t index) {
  device atomic_int* first = (device atomic_int*)&status->dimension;
  int expected = 0;
  while (expected == 0) {
    const bool taken = atomic_compare_exchange_weak_explicit(first, &expected, dimension + 1,
                                                             memory_order_relaxed, memory_order_relaxed);
    if (taken) {
      status->index = index;
      return;
    }
  }
}
