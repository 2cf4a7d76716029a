// How rows lie in threadgroup memory from which tensor cores are fed.
#pragma once

#include "common.h"

// Of chunk `chunk` of row `row`, in bytes. Rows may be longer than 8 chunks.
inline int place_of(int row, int chunk, int row_bytes) {
  return row * row_bytes + ((chunk ^ (row & 7)) << 4);
}
