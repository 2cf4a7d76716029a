// What kernels and the C++ that launches them agree on, beside arguments (args.h): numbers of function
// constants and of buffers, and the shapes that grids assume.
//
// kFc...: function constants. Those of a header come before those of the libraries that include it.
// kBuffer...: buffers; kernels leave out those that they do not need.
#pragma once

#ifdef __METAL_VERSION__
#define NPU_SHARED constant constexpr
#else
#include <cstdint>
#define NPU_SHARED inline constexpr
namespace npu::gpu {
#endif

NPU_SHARED uint32_t kSimd = 32;  // threads of a simdgroup on every Apple GPU

// Of every kernel that makes y of x; its other ones follow.
enum { kBufferArgs, kBufferX, kBufferY, kBufferOwn };

// The type of a number in memory, where a kernel reads several types.
#define NPU_FLOAT32 0  // as DType counts them; also for #if
#define NPU_FLOAT16 1
#define NPU_BFLOAT16 2
enum class ParameterKind : int32_t { kNone, kOwn, kFloat };    // own: of the dtype of x
enum class MaskKind : int32_t { kNone, kBool, kFloat, kOwn };  // own: of the dtype of q

// Elements that are only moved: words that a thread moves at once, unless they have 8 bytes.
NPU_SHARED int32_t kWordsAtOnce = 4;

// rows.h: softmax and norm
enum { kFcRowsShare, kFcRowsVectors, kFcRowsEnd };
NPU_SHARED int32_t kRowVector = 4;       // neighbours that a thread keeps together
NPU_SHARED int32_t kMostRowVectors = 4;  // of a thread

enum { kFcSoftmaxLog = kFcRowsEnd, kFcSoftmaxParts };
enum { kBufferSoftmaxPeaks = kBufferOwn };
NPU_SHARED int32_t kPeakBytes = 8;

enum { kFcNormRms = kFcRowsEnd, kFcNormWeight, kFcNormBias };
enum { kBufferNormWeight = kBufferOwn, kBufferNormBias, kBufferNormFactors, kBufferNormSpreads };
NPU_SHARED int32_t kSpreadBytes = 16;
NPU_SHARED int32_t kFactorBytes = 8;

// copy
enum { kFcCopyDense };
NPU_SHARED uint32_t kCopyTile = 32;  // rows and columns of a transposition

// indexed.h: gather and scatter
enum { kFcIndexedAxes, kFcIndexedWrap, kFcIndexedEnd };
enum { kBufferIndexedStatus = kBufferOwn, kBufferIndices, kBufferIndicesEnd = kBufferIndices + 8 };

enum { kFcGatherDense = kFcIndexedEnd };

enum { kFcScatterDense = kFcIndexedEnd, kFcScatterKind, kFcScatterSorted };
enum { kBufferScatterItems = kBufferIndicesEnd };

// reduce
enum { kFcReduceKind, kFcReduceParts, kFcReduceDense };
enum { kBufferReduceParts = kBufferOwn };
NPU_SHARED int32_t kTotalBytes = 8;           // of what is carried for a result: sums, products, extremes
NPU_SHARED int32_t kCandidateBytes = 8;       // an extreme and its position
NPU_SHARED int32_t kWideCandidateBytes = 16;  // of integers
NPU_SHARED int32_t kVarianceBytes = 40;
NPU_SHARED uint32_t kMostReduceSimdgroups = 16;  // simdgroups that share the elements of 32 results

// pool, adaptive_pool
enum {
  kFcWindowMaximum,
  kFcWindowAdaptive,
  kFcWindowChannelsLast,
  kFcWindowHasIndices,
  kFcWindowCountPadding
};
enum { kBufferWindowIndices = kBufferOwn };

// pad
enum { kFcPadKind };

// resize
enum { kFcResizeKind, kFcResizeChannelsLast, kFcResizeNarrow, kFcResizeDims };

// grid_sample
enum { kFcGridKind, kFcGridPadding, kFcGridDims, kFcGridChannelsLast, kFcGridFloat };
enum { kBufferGrid = kBufferOwn };

// scan
enum { kFcScanProduct, kFcScanParts };
enum { kBufferScanTotals = kBufferOwn };
NPU_SHARED uint32_t kScanEach = 4;     // elements of a thread in one block
NPU_SHARED int32_t kCarriedBytes = 8;  // of a total

// scan_extreme
enum { kFcScanExtremeMaximum, kFcScanExtremeValues, kFcScanExtremeIndices };
enum { kBufferScanIndices = kBufferOwn };

// sort, topk
enum { kFcSortDescending, kFcSortHasValues, kFcSortHasIndices, kFcSortFirst, kFcSortLast };
enum { kBufferSortValues = kBufferY, kBufferSortIndices, kBufferSortFrom, kBufferSortTo };
NPU_SHARED int32_t kSortBlock = 2048;  // items that are sorted in threadgroup memory
NPU_SHARED int32_t kSortItemBytes = 8;
NPU_SHARED int32_t kSortWideBlock = 1024;  // those of 64-bit keys
NPU_SHARED int32_t kSortWideItemBytes = 16;
NPU_SHARED uint32_t kSortMerged = 8;  // items of a thread that merges

// rope
enum { kFcRopeInterleaved, kFcRopeCached, kFcRopeFloatCos, kFcRopeFloatSin };
enum {
  kBufferRopeX = kBufferX,
  kBufferRopeCos,
  kBufferRopeSin,
  kBufferRopeKey,
  kBufferRopeValue,
  kBufferRopeIndex,
  kBufferRopeOut,
  kBufferRopeKeyOut,
  kBufferRopeValueOut,
  kBufferRopeStatus
};

// map: the result, then the operands of a generated kernel, then a status where it divides
enum { kBufferMapY = kBufferArgs + 1, kBufferMapOperands };

// epilogue.h: matmul and conv
enum {
  kFcEpilogueBias,
  kFcEpilogueExtras,
  kFcEpilogueFours,
  kFcEpilogueResult,
  kFcEpilogueExtraType,
  kFcEpilogueFirst,
  kFcEpilogueCombine,
  kFcEpilogueLast,
  kFcEpilogueClipLow,
  kFcEpilogueClipHigh,
  kFcEpilogueGated,
  kFcEpilogueEnd
};
enum {
  kBufferLeft = kBufferArgs + 1,
  kBufferRight,
  kBufferResult,
  kBufferBias,
  kBufferExtras,
  kBufferExtrasEnd = kBufferExtras + 4
};

// gemm.h: blocks of a product on simdgroup matrices
NPU_SHARED int32_t kLargeBlock = 64;  // rows and columns
NPU_SHARED int32_t kSmallBlock = 32;
NPU_SHARED int32_t kTinyRows = 16;  // of a block of kSmallBlock columns
NPU_SHARED uint32_t kLargeBlockThreads = 128;
NPU_SHARED uint32_t kSmallBlockThreads = 256;  // and of tiny ones

enum {
  kFcMatmulLeftAlong = kFcEpilogueEnd,
  kFcMatmulRightAlong,
  kFcMatmulSplits,
  kFcMatmulRowsFirst,
  kFcMatmulTensorRightConstant
};
enum { kBufferMatmulParts = kBufferExtrasEnd };
NPU_SHARED int32_t kSumColumns = 4;  // of a thread that adds up parts of the depth

// Blocks on NVIDIA's tensor cores (cpp/cuda/kernels): what is staged of a row at once.
NPU_SHARED int32_t kTensorRowBytes = 128;

// matmul_rows.h
enum {
  kFcMatmulRowsLeftFours = kFcEpilogueEnd,
  kFcMatmulRowsRightAligned,
  kFcMatmulRowsRightConstant,
  kFcMatmulRowsEnd
};
NPU_SHARED int32_t kStreamSimdgroups = 8;  // of a threadgroup

enum { kFcNormedRowsRms = kFcMatmulRowsEnd, kFcNormedRowsWeight, kFcNormedRowsBias, kFcNormedRowsEnd };
enum { kBufferNormedRowsWeight = kBufferExtrasEnd, kBufferNormedRowsBias, kBufferNormedRowsEnd };

// Products of one row whose right side bulk copies bring (cpp/cuda/kernels/stream.h).
enum { kFcStreamVectors = kFcNormedRowsEnd, kFcStreamStages, kFcStreamAhead };
NPU_SHARED int32_t kMostStreamVectors = 8;       // of 16 bytes: what a lane has of the row
NPU_SHARED int32_t kMostStreamStages = 8;        // of a simdgroup
NPU_SHARED int32_t kStreamRingBytes = 96 << 10;  // of all rings of a threadgroup

// quantized.h: quantised operands, alone and in products
enum {
  kFcQuantizedBits = kFcNormedRowsEnd,
  kFcQuantizedSigned,
  kFcQuantizedOffset,
  kFcQuantizedScaleType,
  kFcQuantizedOffsetType,
  kFcQuantizedUnitType,  // less than 0: there are none
  kFcQuantizedEnd
};
NPU_SHARED int32_t kQuantizedEach = 8;  // neighbours that begin at a whole byte, whatever their bits
enum class QuantizedOffset : int32_t { kNone, kPoint, kBias };

// matmul_quantized
enum { kBufferQuantizedScales = kBufferNormedRowsEnd, kBufferQuantizedOffsets, kBufferQuantizedUnits };
NPU_SHARED int32_t kQuantizedStep = 8;  // bytes of a column that a lane takes at once
NPU_SHARED int32_t kSixesStep = 12;     // the same of 6 bits: 16 elements

// dequantize
enum { kBufferDequantizeScales = kBufferOwn, kBufferDequantizeOffsets, kBufferDequantizeUnits };

// conv_geometry.h
enum { kFcConvSpreads = kFcEpilogueEnd, kFcConvShort, kFcConvPaddedColumns, kFcConvSplits };
enum { kBufferConvChunks = kBufferExtrasEnd };
NPU_SHARED int32_t kConvChannels = 4;     // of a thread that convolves directly
NPU_SHARED int32_t kDepthwisePixels = 4;  // neighbours along the width, of a thread that convolves depthwise

// attention.h
enum { kFcAttentionMask, kFcAttentionCausal, kFcAttentionNanRows, kFcAttentionInt8, kFcAttentionEnd };
enum {
  kBufferAttentionQ = kBufferArgs + 1,
  kBufferAttentionK,
  kBufferAttentionV,
  kBufferAttentionMask,
  kBufferAttentionKeyScales,
  kBufferAttentionValueScales,
  kBufferAttentionOut,
  kBufferAttentionParts,
  kBufferAttentionPeaks
};

enum { kFcTensorAttentionWideMask = kFcAttentionEnd };
NPU_SHARED int32_t kTensorQueries = 64;         // rows of a threadgroup, 16 for each simdgroup
NPU_SHARED int32_t kTensorHeads[] = {64, 128};  // widths of heads, at most

enum { kFcTilesDenseQueries = kFcAttentionEnd, kFcTilesDenseKeys, kFcTilesDenseValues };
NPU_SHARED int32_t kAttentionTiles[] = {32, 64, 96, 128, 256};  // widths of heads, at most
NPU_SHARED int32_t kTileRows = 8;                               // of a simdgroup
NPU_SHARED int32_t kTileSimdgroups = 4;
NPU_SHARED int32_t kWideTileSimdgroups = 2;  // of the widest heads of float32: no more fits

enum {
  kFcFewRowsWideKeys = kFcAttentionEnd,
  kFcFewRowsWideValues,
  kFcFewRowsKeyLanes,
  kFcFewRowsValueLanes,
  kFcFewRowsParts,
  kFcFewRowsSimdgroups
};
NPU_SHARED int32_t kFewRowsSimdgroups = 8;  // of a threadgroup, at most
NPU_SHARED int32_t kFewRowsColumns = 32;    // of a block
NPU_SHARED int32_t kAnyPartOfRow = 256;     // elements of the result that a simdgroup makes

#ifndef __METAL_VERSION__
}  // namespace npu::gpu
#endif
