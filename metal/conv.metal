// Convolutions as products of patches of the input, gathered on the way to threadgroup memory, with packed
// weights: [group][tap, channel][column]. What has no use for blocks: conv_direct.metal.
#include "conv_geometry.h"
#include "gemm.h"

// Of a group's packed weights: a multiple of 4.
constant int kPaddedColumns [[function_constant(kFcConvPaddedColumns)]];

// Stages the patches of the block's pixels, kDepth deep from where `tap` stands. A thread always stages the
// same depth, of several pixels: four channels at a time, or one.
template <typename B, int kAtOnce>
inline void stage_patches(threadgroup typename B::Element* to, const device typename B::Element* x,
                          constant ConvArgs& args, const threadgroup Window* windows, Tap tap,
                          int thread_index) {
  typedef typename B::Element T;
  constexpr int kAcross = B::kDepth / kAtOnce;
  const int column = thread_index % kAcross * kAtOnce;
  for (int row = thread_index / kAcross; row < B::kRows; row += B::kThreads / kAcross) {
    bool inside;
    const device T* from = x + offset_of(args, windows[row], tap, inside);
    threadgroup T* at = to + row * B::kKMajorStride + column;
    if (kAtOnce == 4) {
      *(threadgroup vec<T, 4>*)at = inside ? four(from) : vec<T, 4>(T(0.0f));
    } else {
      *at = inside ? *from : T(0.0f);
    }
  }
}

struct Finish {
  constant ConvArgs& args;
  Ends ends;
  RowOffsets block;
  int row, column;  // column of its group
  int group;

  void operator()(int i, int j, float4 sums, float4 /*others*/) const {
    if (row + i >= int(inner_of(args.product.rows)) || column + j >= args.columns) return;
    const int first = group * args.columns;
    finish_columns(sums, args.product, ends, row_offsets(args.product, block, row + i), first + column + j,
                   first + args.columns);
  }
};

template <typename B, int kAtOnce>
[[kernel]] void conv(constant ConvArgs& args [[buffer(kBufferArgs)]],
                     const device typename B::Element* x [[buffer(kBufferLeft)]],
                     const device typename B::Element* weights [[buffer(kBufferRight)]], NPU_ENDS,
                     uint3 position [[threadgroup_position_in_grid]],
                     uint thread_index [[thread_index_in_threadgroup]],
                     uint simdgroup [[simdgroup_index_in_threadgroup]],
                     uint lane [[thread_index_in_simdgroup]]) {
  typedef typename B::Element T;
  threadgroup float4 memory[B::kMemory];
  threadgroup Window windows[B::kRows];
  threadgroup T* staged_patches = (threadgroup T*)memory;
  threadgroup T* staged_weights = staged_patches + B::kRows * B::kKMajorStride;
  const uint group = position.z / uint(args.blocks), block = position.z - group * uint(args.blocks);
  const int column = int(position.x) * B::kColumns, row = int(position.y) * B::kRows;
  const int rows = int(inner_of(args.product.rows)), depth = args.product.depth;
  if (column >= args.columns || row >= rows || group >= uint(args.groups)) return;
  for (int i = int(thread_index); i < B::kRows; i += B::kThreads) {
    windows[i] = window_of(args, row + i < rows ? block * uint(rows) + uint(row + i) : uint(args.pixels));
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  x += args.product.first[NPU_LEFT] + int64_t(group) * args.channels * args.x_channel;
  weights += int64_t(group) * depth * kPaddedColumns + column;
  Tap tap = {0, 0, 0, 0};
  tap.step(args, int(thread_index) % (B::kDepth / kAtOnce) * kAtOnce);
  const Standing<B> standing(simdgroup, lane);
  Sums<B> sums;
  for (int k = 0; k < depth; k += B::kDepth) {
    stage_patches<B, kAtOnce>(staged_patches, x, args, windows, tap, int(thread_index));
    stage_fours<T, B::kDepth, B::kColumns, B::kNMajorStride, B::kThreads>(
        staged_weights, weights + int64_t(k) * kPaddedColumns, kPaddedColumns, depth - k,
        kPaddedColumns - column, int(thread_index));
    tap.step(args, B::kDepth);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    multiply<B, false>(sums, staged_patches, staged_weights, standing);
    sums.fold_after(k + B::kDepth);
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  const Finish finish = {args, NPU_GATHER_ENDS, block_offsets(args.product, block), row, column, int(group)};
  hand_out(sums, (threadgroup float*)memory, standing, simdgroup, finish);
}

#define NPU_CONV(name, T, at_once, ...)           \
  template [[host_name(#name "_" #T)]] [[kernel]] \
  decltype(conv<Blocking<T, __VA_ARGS__>, at_once>) conv<Blocking<T, __VA_ARGS__>, at_once>;
#define NPU_CONVS(T, depth)                                                  \
  NPU_CONV(conv_large_fours, T, 4, kLargeBlock, kLargeBlock, depth, 2, 2, 1) \
  NPU_CONV(conv_large_any, T, 1, kLargeBlock, kLargeBlock, depth, 2, 2, 1)   \
  NPU_CONV(conv_small_fours, T, 4, kSmallBlock, kSmallBlock, 32, 2, 2, 2)    \
  NPU_CONV(conv_small_any, T, 1, kSmallBlock, kSmallBlock, 32, 2, 2, 2)      \
  NPU_CONV(conv_tiny_fours, T, 4, kTinyRows, kSmallBlock, 64, 1, 2, 4)       \
  NPU_CONV(conv_tiny_any, T, 1, kTinyRows, kSmallBlock, 64, 1, 2, 4)
#if NPU_ONLY < 0 || NPU_ONLY == NPU_FLOAT32
NPU_CONVS(float, 16)
#endif
#if NPU_ONLY < 0 || NPU_ONLY == NPU_FLOAT16
NPU_CONVS(half, 32)
#endif
#if NPU_ONLY < 0 || NPU_ONLY == NPU_BFLOAT16
NPU_CONVS(bfloat, 32)
#endif
