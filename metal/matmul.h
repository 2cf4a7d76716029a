// How the sums of a product in blocks end: as results, or, where its depth is split, in the scratch.
#pragma once

#include "epilogue.h"
#include "parts.h"

constant bool kSplits [[function_constant(kFcMatmulSplits)]];  // sums of parts of the depth go to the scratch

// Takes four sums to their end, or to the scratch as they are.
struct Finish {
  constant MatmulArgs& args;
  Ends ends;
  RowOffsets block;
  int row, column;
  int64_t part;  // where the block's sums start in the scratch

  void operator()(int i, int j, float4 sums, float4 others) const {
    const int rows = int(inner_of(args.product.rows)), columns = args.product.columns;
    if (row + i >= rows) return;
    if (!kSplits) {
      finish_columns(sums, others, args.product, ends, row_offsets(args.product, block, row + i), column + j,
                     columns);
      return;
    }
    const int64_t width = kGated ? 2 * int64_t(columns) : columns;
    device float* to = (device float*)ends.result + part + (row + i) * width;
    store_some(to + column + j, sums, columns - column - j, columns);
    if (kGated) store_some(to + columns + column + j, others, columns - column - j, columns);
  }
};
