// What happens to the sums of a product before they are stored: bias, epilogue, rounding.
//
// The usual epilogues are chosen by function constants: an activation, an extra operand that is added or
// multiplied, another activation. Any other one is generated (cpp/gpu/ops/product.cpp): it comes before this
// file and defines NPU_EPILOGUE, the type Finished and finish().
#pragma once

#include "extras.h"
#include "map.h"
#include "typed.h"

// A library with a generated epilogue has kernels for one dtype, as DType counts them; -1: for all.
#ifndef NPU_ONLY
#define NPU_ONLY -1
#endif

// The bias as DType counts it, plus 1; 0: there is none.
constant int kBias [[function_constant(kFcEpilogueBias)]];
constant int kExtras [[function_constant(kFcEpilogueExtras)]];
// The columns of result, bias and extra are neighbours.
constant bool kFours [[function_constant(kFcEpilogueFours)]];
// A result comes from the sums of two columns; the second is as many columns further on as there are
// results.
constant bool kGated [[function_constant(kFcEpilogueGated)]];

static_assert(kBufferExtrasEnd == kBufferExtras + NPU_EXTRAS, "each extra operand has a buffer");

// Offsets of a row of the product in each operand.
typedef Offsets<4 + NPU_EXTRAS> RowOffsets;

inline RowOffsets block_offsets(constant ProductArgs& args, uint block) {
  RowOffsets offsets = walk_row(args.rows, block);
  NPU_UNROLL
  for (int k = 0; k < 4 + NPU_EXTRAS; ++k) offsets.of[k] += args.first[k];
  return offsets;
}
inline RowOffsets row_offsets(constant ProductArgs& args, RowOffsets block, int row) {
  NPU_UNROLL
  for (int k = 0; k < 4 + NPU_EXTRAS; ++k) block.of[k] += int64_t(row) * step_of(args.rows, k);
  return block;
}
inline int64_t offset_of(constant ProductArgs& args, RowOffsets row, int operand, int column) {
  return row.of[operand] + int64_t(column) * args.column[operand];
}

inline float biased(float sum, constant ProductArgs& args, Ends ends, RowOffsets row, int column) {
  return kBias > 0 ? sum + load_float(ends.bias, kBias - 1, offset_of(args, row, 1, column)) : sum;
}

#ifdef NPU_EPILOGUE

inline void finish_one(float sum, float other, constant ProductArgs& args, Ends ends, RowOffsets row,
                       int column) {
  int64_t at[NPU_EXTRAS];
  NPU_UNROLL
  for (int k = 0; k < NPU_EXTRAS; ++k) at[k] = k < kExtras ? offset_of(args, row, 2 + k, column) : 0;
  sum = biased(sum, args, ends, row, column);
  if (kGated) other = biased(other, args, ends, row, column + args.columns);
  ((device Finished*)ends.result)[offset_of(args, row, 0, column)] = finish(sum, other, ends, at);
}

inline void finish_four(float4 sums, float4 others, constant ProductArgs& args, Ends ends, RowOffsets row,
                        int column) {
  NPU_UNROLL
  for (int k = 0; k < 4; ++k) finish_one(sums[k], others[k], args, ends, row, column + k);
}

#else

constant int kResult [[function_constant(kFcEpilogueResult)]];  // as DType counts them
constant int kExtraType [[function_constant(kFcEpilogueExtraType)]];
constant int kFirst [[function_constant(kFcEpilogueFirst)]];      // Activation of the sum
constant int kCombine [[function_constant(kFcEpilogueCombine)]];  // Combination with the extra operand
constant int kLast [[function_constant(kFcEpilogueLast)]];        // Activation of that
constant float kClipLow [[function_constant(kFcEpilogueClipLow)]];
constant float kClipHigh [[function_constant(kFcEpilogueClipHigh)]];

inline float activate(float x, int activation) {
  switch (Activation(activation)) {
    case Activation::kRelu:
      return relu_of(x);
    case Activation::kClip:
      return nan_min(nan_max(x, kClipLow), kClipHigh);
    case Activation::kSilu:
      return silu_of(x);
    case Activation::kGelu:
      return gelu_of(x);
    case Activation::kGeluTanh:
      return gelu_tanh_of(x);
    case Activation::kSigmoid:
      return sigmoid_of(x);
    case Activation::kTanh:
      return tanh_of(x);
    case Activation::kHardswish:
      return hardswish_of(x);
    case Activation::kHardsigmoid:
      return hardsigmoid_of(x);
    default:
      return x;
  }
}

inline float finished(float sum, float extra) {
  const float first = activate(sum, kFirst);
  switch (Combination(kCombine)) {
    case Combination::kSum:
      return activate(first + extra, kLast);
    case Combination::kProduct:
      return activate(first * extra, kLast);
    default:
      return activate(first, kLast);
  }
}

inline void finish_one(float sum, float other, constant ProductArgs& args, Ends ends, RowOffsets row,
                       int column) {
  float extra = 0.0f;
  if (kExtras > 0) extra = load_float(ends.extra[0], kExtraType, offset_of(args, row, 2, column));
  if (kGated) extra = biased(other, args, ends, row, column + args.columns);
  const float result = finished(biased(sum, args, ends, row, column), extra);
  store_float(ends.result, kResult, offset_of(args, row, 0, column), result);
}

inline void finish_four(float4 sums, float4 others, constant ProductArgs& args, Ends ends, RowOffsets row,
                        int column) {
  if (!kFours) {
    NPU_UNROLL
    for (int k = 0; k < 4; ++k) finish_one(sums[k], others[k], args, ends, row, column + k);
    return;
  }
  float4 extra = others;
  if (kBias > 0) sums += load_floats(ends.bias, kBias - 1, row.of[1] + column);
  if (kBias > 0 && kGated) extra += load_floats(ends.bias, kBias - 1, row.of[1] + column + args.columns);
  if (kExtras > 0) extra = load_floats(ends.extra[0], kExtraType, row.of[2] + column);
  NPU_UNROLL
  for (int k = 0; k < 4; ++k) sums[k] = finished(sums[k], extra[k]);
  store_floats(ends.result, kResult, row.of[0] + column, sums);
}

#endif

// Four neighbours of a row, of which those from `end` on are not there.
inline void finish_columns(float4 sums, float4 others, constant ProductArgs& args, Ends ends, RowOffsets row,
                           int column, int end) {
  if (column + 4 <= end) {
    finish_four(sums, others, args, ends, row, column);
    return;
  }
  NPU_UNROLL
  for (int k = 0; k < 4; ++k) {
    if (column + k < end) finish_one(sums[k], others[k], args, ends, row, column + k);
  }
}
inline void finish_columns(float4 sums, constant ProductArgs& args, Ends ends, RowOffsets row, int column,
                           int end) {
  finish_columns(sums, float4(0.0f), args, ends, row, column, end);
}

// The operands of every kernel that ends so, and how it keeps them. Those that are absent are bound to
// nothing that may be read.
#define NPU_ENDS                                                                                  \
  device char *result [[buffer(kBufferResult)]], const device char *bias [[buffer(kBufferBias)]], \
      const device char *extra0 [[buffer(kBufferExtras)]],                                        \
      const device char *extra1 [[buffer(kBufferExtras + 1)]],                                    \
      const device char *extra2 [[buffer(kBufferExtras + 2)]],                                    \
      const device char *extra3 [[buffer(kBufferExtras + 3)]]
#define NPU_GATHER_ENDS                              \
  {                                                  \
    result, bias, { extra0, extra1, extra2, extra3 } \
  }
