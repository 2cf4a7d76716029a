// The arguments of every kernel, shared by MSL and C++. A kernel reads them at buffer 0.
//
// Counts of what a grid covers are 32-bit; strides and offsets are 64-bit, in elements. Members are ordered so
// that nothing needs padding; NPU_ARGS asserts the size on both sides. Kernels read members one by one: a
// struct cannot be copied out of the constant address space.
#pragma once

#ifndef __METAL_VERSION__
#include <cstdint>
namespace npu::gpu {
#endif

#define NPU_MAX_RANK 8
#define NPU_ARGS(name, bytes) static_assert(sizeof(name) == bytes, #name " differs between MSL and C++")

// Dimensions walked together by up to two operands, the innermost last; see make_nest.
struct Nest2 {
  int32_t rank;
  int32_t rows;  // of all dimensions but the last
  int32_t extent[NPU_MAX_RANK];
  int64_t first[NPU_MAX_RANK];
  int64_t second[NPU_MAX_RANK];
};
NPU_ARGS(Nest2, 168);

// The same for any number of operands.
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

struct SoftmaxArgs {
  Nest2 rows;  // y, x without the axis
  int64_t x_step;
  int64_t y_step;
  int32_t n;
  int32_t count;  // rows in all
};
NPU_ARGS(SoftmaxArgs, 192);

// copy
struct CopyArgs {
  NestOf<2> nest;  // y, x
};
NPU_ARGS(CopyArgs, 168);

struct TransposeArgs {
  NestOf<2> rest;  // y, x without the two dimensions of a tile
  int32_t across;  // extent of the one that is innermost in y
  int32_t down;    // extent of the one that is innermost in x
  int64_t y_across;
  int64_t y_down;
  int64_t x_across;
  int64_t x_down;
};
NPU_ARGS(TransposeArgs, 208);

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
  NestOf<2 + NPU_MAX_INDICES> nest;  // out, the place in x that is not indexed, the indices
  IndexedAxis axes[NPU_MAX_INDICES];
};
NPU_ARGS(GatherArgs, 872);

enum class ScatterKind : int32_t { kSet, kAdd, kMul, kMax, kMin };

struct ScatterArgs {
  NestOf<2 + NPU_MAX_INDICES> kept;  // the place in out, updates, indices: over dimensions that are not indexed
  NestOf<2 + NPU_MAX_INDICES> free;  // over the others, along which updates may meet
  IndexedAxis axes[NPU_MAX_INDICES];
  int32_t updates;  // of free
  int32_t reserved;
};
NPU_ARGS(ScatterArgs, 1560);

// reduce
enum class ReduceKind : int32_t { kSum, kMean, kProd, kMax, kMin, kAny, kAll, kArgmax, kArgmin, kVar };

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

// matmul, conv
#define NPU_EXTRAS 4                    // operands of an epilogue, at most
#define NPU_LEFT (2 + NPU_EXTRAS)       // operands of `rows` that a matmul multiplies
#define NPU_RIGHT (3 + NPU_EXTRAS)
struct ProductArgs {
  NestOf<4 + NPU_EXTRAS> rows;      // result, bias, extras; left, right. Dimensions but the last: the grid's z
  int64_t column[2 + NPU_EXTRAS];   // steps between the columns of result, bias, extras
  int32_t columns;
  int32_t depth;
};
NPU_ARGS(ProductArgs, 608);

struct MatmulArgs {
  ProductArgs product;
  int64_t left_depth;  // steps of the operands that are multiplied
  int64_t right_depth;
  int64_t right_column;
  int32_t splits;  // parts of the depth, each with a block of the grid's z and a place in the scratch
  int32_t split_depth;
  int32_t slices;  // simdgroups that share the depth of one column
  int32_t blocks;  // of rows: the extent of the grid's z without the splits
};
NPU_ARGS(MatmulArgs, 648);

#ifndef __METAL_VERSION__
}  // namespace npu::gpu
#endif
