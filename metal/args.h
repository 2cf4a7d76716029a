// The arguments of every kernel, shared by MSL and C++. A kernel reads them at buffer 0.
//
// Counts of what a grid covers are 32-bit; strides and offsets are 64-bit, in elements. Members are ordered
// so that nothing needs padding; NPU_ARGS asserts the size on both sides. Kernels read members one by one: a
// struct cannot be copied out of the constant address space.
#pragma once

#ifndef __METAL_VERSION__
#include <cstdint>
namespace npu::gpu {
#endif

#define NPU_MAX_RANK 8
#define NPU_ARGS(name, bytes) static_assert(sizeof(name) == bytes, #name " differs between MSL and C++")

// Dimensions that operands walk together, the innermost last; see make_nest.
template <int kOperands>
struct NestOf {
  int32_t rank;
  int32_t rows;  // of all dimensions but the last
  int32_t extent[NPU_MAX_RANK];
  int64_t step[kOperands][NPU_MAX_RANK];
};
static_assert(sizeof(NestOf<3>) == 232, "NestOf differs between MSL and C++");

// What kernels report of an index that is out of range; the first one stays.
struct Status {
  int32_t dimension;  // of the indexed operand, plus 1; 0: nothing to report; -1: a division by zero
  int32_t reserved;
  int64_t index;
};
NPU_ARGS(Status, 16);

// rows of softmax and norm
enum class RowShare : int32_t { kThread, kSimdgroup, kThreadgroup };

struct SoftmaxArgs {
  NestOf<2> rows;  // y, x without the axis
  int64_t x_step;
  int64_t y_step;
  int32_t n;
  int32_t count;  // rows in all
  int32_t part;   // elements of a part
  int32_t parts;  // of a row
};
NPU_ARGS(SoftmaxArgs, 200);

// copy
struct CopyArgs {
  NestOf<2> nest;   // y, x
  int64_t y_first;  // where the first element lies in what is bound
  int64_t x_first;
};
NPU_ARGS(CopyArgs, 184);

struct TransposeArgs {
  NestOf<2> rest;  // y, x without the two dimensions of a tile
  int32_t across;  // extent of the one that is innermost in y
  int32_t down;    // extent of the one that is innermost in x
  int64_t y_across;
  int64_t y_down;
  int64_t x_across;
  int64_t x_down;
  int64_t y_first;  // where the first element lies in what is bound
  int64_t x_first;
};
NPU_ARGS(TransposeArgs, 224);

// gather, scatter
#define NPU_MAX_INDICES 8

enum class IndexType : int32_t { kByte, kShort, kInt, kLong, kUnsignedByte };

struct IndexedAxis {
  int64_t extent;
  int64_t step;       // of the indexed operand
  int32_t dimension;  // of the indexed operand
  IndexType type;
};
NPU_ARGS(IndexedAxis, 24);

struct GatherArgs {
  NestOf<2 + NPU_MAX_INDICES> nest;  // out, the offset in x without what is indexed, the indices
  IndexedAxis axes[NPU_MAX_INDICES];
};
NPU_ARGS(GatherArgs, 872);

enum class ScatterKind : int32_t { kSet, kAdd, kMul, kMax, kMin };

struct ScatterArgs {
  NestOf<2 + NPU_MAX_INDICES> kept;  // offsets in out, updates, indices: over dimensions that are not indexed
  NestOf<2 + NPU_MAX_INDICES> free;  // over the others, along which updates may meet
  IndexedAxis axes[NPU_MAX_INDICES];
  int32_t updates;  // of free
  int32_t lists;    // of items, where updates are sorted by target
};
NPU_ARGS(ScatterArgs, 1560);

// reduce
enum class ReduceKind : int32_t { kSum, kMean, kProd, kMax, kMin, kAny, kAll, kArgmax, kArgmin, kVar, kStd };

struct ReduceArgs {
  NestOf<2> kept;     // y, x over the dimensions that stay
  NestOf<1> reduced;  // x over the others
  int32_t results;    // of kept
  int32_t count;      // of reduced: elements of a result
  int32_t part;       // elements that one thread, simdgroup or threadgroup folds
  float divisor;      // of a variance
};
NPU_ARGS(ReduceArgs, 288);

// norm
struct NormArgs {
  NestOf<4> rows;      // y, x, weight, bias over what is not normalised
  NestOf<4> elements;  // over the elements of a row
  int32_t count;       // of rows
  int32_t n;           // of elements
  float eps;
  int32_t reserved;
};
NPU_ARGS(NormArgs, 608);

// Group norms of images whose channels lie innermost.
struct NormColumnsArgs {
  int64_t x_batch;  // steps
  int64_t y_batch;
  int64_t x_pixel;
  int64_t y_pixel;
  int64_t weight_step;
  int64_t bias_step;
  int32_t channels;
  int32_t groups;
  int32_t each;  // channels of a group
  int32_t pixels;
  int32_t part;  // pixels that a thread looks at
  int32_t parts;
  float eps;
  int32_t images;
};
NPU_ARGS(NormColumnsArgs, 80);

// map: the result, then the operands of a generated kernel
template <int kOperands>
struct MapArgs {
  NestOf<kOperands> nest;
  int64_t first[kOperands];  // where the first element lies in what is bound
};
static_assert(sizeof(MapArgs<3>) == 256, "MapArgs differs between MSL and C++");

// matmul, conv
enum class Activation : int32_t {
  kNone,
  kRelu,
  kClip,
  kSilu,
  kGelu,
  kGeluTanh,
  kSigmoid,
  kTanh,
  kHardswish,
  kHardsigmoid
};
enum class Combination : int32_t { kAlone, kSum, kProduct };
enum class Neighbours : int32_t { kOfDepth, kOfLines, kNone };  // which elements of a factor lie side by side

#define NPU_EXTRAS 4               // operands of an epilogue, at most
#define NPU_LEFT (2 + NPU_EXTRAS)  // operands of `rows` that a matmul multiplies
#define NPU_RIGHT (3 + NPU_EXTRAS)
struct ProductArgs {
  NestOf<4 + NPU_EXTRAS> rows;     // result, bias, extras; left, right. Dimensions but the last: the grid's z
  int64_t first[4 + NPU_EXTRAS];   // where the first element lies in what is bound
  int64_t column[2 + NPU_EXTRAS];  // steps between the columns of result, bias, extras
  int32_t columns;
  int32_t depth;
};
NPU_ARGS(ProductArgs, 672);

struct MatmulArgs {
  ProductArgs product;
  int64_t left_depth;  // steps of the operands that are multiplied
  int64_t right_depth;
  int64_t right_column;
  int32_t splits;  // parts of the depth, each with a block of the grid's z and a part of the scratch
  int32_t split_depth;
  int32_t simdgroups_per_column;  // they share its depth
  int32_t blocks;                 // of rows: the extent of the grid's z without the splits
};
NPU_ARGS(MatmulArgs, 712);

// A product of integers, a thread for each result.
struct MatmulIntegersArgs {
  NestOf<3> results;  // y, left, right
  int64_t left_step;  // along the depth
  int64_t right_step;
  int32_t depth;
  int32_t count;  // of results
};
NPU_ARGS(MatmulIntegersArgs, 256);

// A product of few rows that are normalised before.
struct NormedRowsArgs {
  MatmulArgs matmul;    // its left side is not normalised yet
  int64_t weight_step;  // of the norm
  int64_t bias_step;
  float eps;
  int32_t row_step;  // from row to row in threadgroup memory: whole vectors of 16 bytes
};
NPU_ARGS(NormedRowsArgs, 736);

// How the rows of a quantised right side lie, one for each column of a product.
struct QuantizedArgs {
  int64_t q_first;  // in what is bound, in elements
  int64_t q_column;
  int64_t scale_first;
  int64_t scale_column;
  int64_t offset_first;
  int64_t offset_column;
  int64_t unit_first;
  int64_t unit_column;
  int32_t group;
  int32_t unit;  // groups that share one
};
NPU_ARGS(QuantizedArgs, 72);

struct MatmulQuantizedArgs {
  MatmulArgs matmul;
  QuantizedArgs right;
};
NPU_ARGS(MatmulQuantizedArgs, 784);

struct NormedQuantizedArgs {
  NormedRowsArgs rows;
  QuantizedArgs right;
};
NPU_ARGS(NormedQuantizedArgs, 808);

// Spatial dimensions are three; missing ones lead, with extent 1.
struct ConvArgs {
  ProductArgs product;  // its columns are those of all groups
  int64_t x_batch;      // steps
  int64_t x_channel;
  int64_t x_step[3];
  int64_t weight_group;  // of the weights, as they are or as they are packed
  int64_t weight_column;
  int64_t weight_channel;
  int64_t weight_step[3];
  int32_t in[3];
  int32_t out[3];
  int32_t taps[3];
  int32_t stride[3];
  int32_t low[3];  // padding
  int32_t dilation[3];
  int32_t up[3];  // dilation of the input
  int32_t pixels;
  int32_t groups;
  int32_t channels;  // of a group
  int32_t columns;   // of a group
  int32_t blocks;    // of rows
};
NPU_ARGS(ConvArgs, 864);

// A convolution in blocks whose depth is split.
struct ConvTensorArgs {
  ConvArgs conv;
  int32_t splits;
  int32_t split_depth;
  int32_t chunks;  // pixels of the input, where they become chunks first
};
NPU_ARGS(ConvTensorArgs, 880);

// pool, adaptive_pool
struct WindowAxis {
  int32_t in;
  int32_t out;
  int32_t window;
  int32_t stride;
  int32_t padding;
  int32_t dilation;
  int64_t x_step;
  int64_t y_step;
  int64_t indices_step;
};
NPU_ARGS(WindowAxis, 48);

struct WindowArgs {
  WindowAxis axes[3];  // missing ones first, with extents of 1
  int64_t x_batch;     // steps
  int64_t y_batch;
  int64_t indices_batch;
  int64_t x_channel;
  int64_t y_channel;
  int64_t indices_channel;
  int32_t batch;  // extents
  int32_t channels;
  int32_t divisor;  // of an average; 0: the cells that count
  int32_t reserved;
};
NPU_ARGS(WindowArgs, 208);

// pad
enum class PadKind : int32_t { kConstant, kReflect, kReplicate, kCircular };

struct PadArgs {
  int64_t y_step[NPU_MAX_RANK];  // in the order of y's memory, the innermost dimension last
  int64_t x_step[NPU_MAX_RANK];
  int32_t out[NPU_MAX_RANK];
  int32_t in[NPU_MAX_RANK];
  int32_t low[NPU_MAX_RANK];
  int32_t rank;
  int32_t rows;   // of all dimensions but the last
  uint64_t fill;  // the bits of an element
};
NPU_ARGS(PadArgs, 240);

// iota
struct IotaArgs {
  int64_t y_step;
  int64_t integer_start;
  int64_t integer_step;
  float start[3];  // their sum is the number
  float step[3];
  int32_t count;
  int32_t reserved;
};
NPU_ARGS(IotaArgs, 56);

// resize
enum class ResizeKind : int32_t { kNearest, kNearestExact, kLinear, kCubic };

// Output position o lies at (o * times + offset) / divisor of the input; nearest elements at o * scale.
struct ResizeAxis {
  int64_t times;
  int64_t offset;
  int64_t divisor;
  int64_t x_step;
  int64_t y_step;
  int32_t in;
  int32_t out;
  float scale;
  int32_t reserved;
};
NPU_ARGS(ResizeAxis, 56);

struct ResizeArgs {
  ResizeAxis axes[3];  // missing ones first, with extents of 1
  int64_t x_batch;     // steps
  int64_t y_batch;
  int64_t x_channel;
  int64_t y_channel;
  int32_t batch;  // extents
  int32_t channels;
};
NPU_ARGS(ResizeArgs, 208);

// grid_sample
enum class GridKind : int32_t { kNearest, kLinear, kCubic };
enum class GridPadding : int32_t { kZeros, kBorder, kReflection };

// A coordinate g stands for element (g + 1) * scale - shift. Reflection is at `low` and at low + span.
struct GridAxisArgs {
  int64_t x_step;
  int64_t y_step;
  int64_t grid_step;   // from result to result
  int64_t coordinate;  // step to the coordinate of this dimension
  int32_t in;
  int32_t out;
  float scale;
  float span;
};
NPU_ARGS(GridAxisArgs, 48);

struct GridArgs {
  GridAxisArgs axes[3];  // missing ones first, with extents of 1
  int64_t x_batch;       // steps
  int64_t y_batch;
  int64_t grid_batch;
  int64_t x_channel;
  int64_t y_channel;
  int32_t batch;  // extents
  int32_t channels;
  float shift;
  float low;
};
NPU_ARGS(GridArgs, 200);

// scan
struct ScanArgs {
  NestOf<2> rows;  // y, x without the axis
  int64_t x_step;
  int64_t y_step;
  int32_t n;
  int32_t count;  // of rows
  int32_t part;   // elements that one threadgroup scans
  int32_t parts;  // of a row
};
NPU_ARGS(ScanArgs, 200);

// scan_extreme
struct ScanExtremeArgs {
  NestOf<3> rows;  // x, values, indices without the axis
  int64_t x_step;
  int64_t values_step;
  int64_t indices_step;
  int32_t n;
  int32_t count;  // of rows
};
NPU_ARGS(ScanExtremeArgs, 264);

// sort, topk
struct SortArgs {
  NestOf<3> rows;  // x, values, indices without the axis
  int64_t x_step;
  int64_t values_step;
  int64_t indices_step;
  int32_t n;      // items of a row that come in
  int32_t keep;   // first items of each block, or of a row, that go on
  int32_t run;    // items of a block, a power of two, or of the runs that are merged
  int32_t count;  // of rows
};
NPU_ARGS(SortArgs, 272);

// rope: steps are of batch, head, row and element
struct RopeArgs {
  int64_t x_step[4];
  int64_t cos_step[4];
  int64_t sin_step[4];
  int64_t key_step[4];
  int64_t value_step[4];
  int64_t out_step[4];
  int64_t key_out_step[4];
  int64_t value_out_step[4];
  int64_t index_step;
  int64_t capacity;  // rows of the caches
  int32_t batch;
  int32_t length;  // rows of a head
  int32_t heads;
  int32_t key_heads;    // 0: there is no key
  int32_t value_heads;  // 0: there is no value
  int32_t width;        // elements of a row
  int32_t rotated;      // the first of them
  int32_t value_width;
};
NPU_ARGS(RopeArgs, 304);

// dequantize
struct DequantizeArgs {
  NestOf<5> rows;    // result, integers, scales, offsets, units
  int64_t first[5];  // of each, in elements
  int64_t step[5];   // along a row
  int32_t depth;     // elements of a row of the result
  int32_t group;
  int32_t count;  // of rows
  int32_t unit;   // groups that share one
};
NPU_ARGS(DequantizeArgs, 456);

// attention: steps are of batch, head, row and element
struct AttentionArgs {
  int64_t q_step[4];
  int64_t k_step[4];
  int64_t v_step[4];
  int64_t mask_step[4];
  int64_t out_step[4];
  int64_t key_scale_step[3];  // of batch, head and row
  int64_t value_scale_step[3];
  int32_t batch;
  int32_t groups;  // heads of k and v
  int32_t shared;  // heads of q for each of them
  int32_t rows;    // of a head of q
  int32_t length;  // of k and v
  int32_t width;   // of q and k
  int32_t value_width;
  int32_t splits;  // of the length, each with a threadgroup and a part of the scratch
  float scale;
  int32_t reserved;
};
NPU_ARGS(AttentionArgs, 248);

#ifndef __METAL_VERSION__
}  // namespace npu::gpu
#endif
