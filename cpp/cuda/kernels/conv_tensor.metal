// Convolutions in blocks on NVIDIA's tensor cores: what metal/conv.metal does on simdgroup matrices. The
// channels of the input are neighbours, and a chunk of 16 bytes of them belongs to one tap. Packed weights:
// [group][column][tap, channel].
#include "conv_geometry.h"
#include "parts.h"

constant constexpr bool kRightConstant = true;  // as weights are that were packed

#include "gemm_tensor.h"

constant bool kSplits [[function_constant(kFcConvSplits)]];  // sums of parts of the depth go to the scratch

// Where the window of an output pixel lies: its offset in the input, and its first coordinates. No pixel: far
// outside.
struct Place {
  int origin, d, h, w;
};

inline Place place_of_window(constant ConvArgs& args, uint pixel) {
  const Window window = window_of(args, pixel);
  if (kSpreads || window.n < 0) return {window.n, window.n < 0 ? 1 << 30 : window.d, window.h, window.w};
  const int64_t origin = window.n * args.x_batch + window.d * args.x_step[0] + window.h * args.x_step[1] +
                         window.w * args.x_step[2];
  return {int(origin), window.d, window.h, window.w};
}

// The chunks that a thread brings of every stage, one after the other along the depth.
template <typename B>
struct Bring {
  typedef typename B::Element T;
  const device T* x;
  const device T* weights;          // the next chunk of the thread's first column
  const threadgroup Place* places;  // from the thread's first row on
  Tap tap;                          // of the next chunk
  int left;                         // of the depth, from the first one on
  int64_t turn;                     // of columns
  uint columns_there;
  int place;

  // Of what the tap reads in a window; `inside` says whether it is there, and not padding.
  int64_t offset_in(constant ConvArgs& args, Place window, int64_t tap_offset, thread bool& inside) const {
    if (kSpreads) {
      const Window spread = {window.d == 1 << 30 ? -1 : window.origin, window.d, window.h, window.w};
      return offset_of(args, spread, tap, inside);
    }
    const uint d = uint(window.d + tap.d * args.dilation[0]), h = uint(window.h + tap.h * args.dilation[1]);
    const uint w = uint(window.w + tap.w * args.dilation[2]);
    inside = d < uint(args.in[0]) && h < uint(args.in[1]) && w < uint(args.in[2]);
    return window.origin + tap_offset;
  }

  // Starts the copies of the next stage.
  void bring_left(constant ConvArgs& args, threadgroup char* to, int stage) {
    const int64_t tap_offset = tap.c * args.x_channel + tap.d * args.dilation[0] * args.x_step[0] +
                               tap.h * args.dilation[1] * args.x_step[1] +
                               tap.w * args.dilation[2] * args.x_step[2];
    to += place;
    NPU_UNROLL
    for (int i = 0; i < B::kLeftTurns; ++i) {
      bool inside;
      const int64_t at = offset_in(args, places[i * B::kRowsAtOnce], tap_offset, inside);
      inside = inside && left > stage * B::kDepth;
      npu::copy_async(to + i * B::kRowsAtOnce * B::kRowBytes, inside ? x + at : x, inside ? 16 : 0);
    }
    tap.step(args, B::kDepth);
  }
  void bring_right(constant ConvArgs& /*args*/, threadgroup char* to, int stage) {
    to += B::kLeftBytes + place;
    NPU_UNROLL
    for (int i = 0; i < B::kRightTurns; ++i) {
      const bool there = left > stage * B::kDepth && (columns_there >> i & 1) != 0;
      npu::copy_line_async(to + i * B::kRowsAtOnce * B::kRowBytes, weights + i * turn, there ? 16 : 0);
    }
    weights += B::kDepth;
  }
};

struct Finish {
  constant ConvArgs& args;
  Ends ends;
  RowOffsets block;
  int row, column;  // column of its group
  int group;
  int64_t part;  // where the block's sums start in the scratch

  void operator()(int i, int j, float4 sums, float4 /*others*/) const {
    if (row + i >= int(inner_of(args.product.rows)) || column + j >= args.columns) return;
    if (kSplits) {
      device float* to = (device float*)ends.result + part + int64_t(row + i) * args.columns + column + j;
      store_some(to, sums, args.columns - column - j, args.columns);
      return;
    }
    const int first = group * args.columns;
    finish_columns(sums, args.product, ends, row_offsets(args.product, block, row + i), first + column + j,
                   first + args.columns);
  }
};

template <typename B>
[[kernel]] void conv_tensor(constant ConvTensorArgs& all [[buffer(kBufferArgs)]],
                            const device typename B::Element* x [[buffer(kBufferLeft)]],
                            const device typename B::Element* weights [[buffer(kBufferRight)]], NPU_ENDS,
                            threadgroup char* memory [[threadgroup(0)]],
                            uint3 position [[threadgroup_position_in_grid]],
                            uint thread_index [[thread_index_in_threadgroup]]) {
  constant ConvArgs& args = all.conv;
  threadgroup Place places[B::kRows];
  const uint piece = position.z / uint(args.blocks), block = position.z - piece * uint(args.blocks);
  const uint split = kSplits ? piece / uint(args.groups) : 0, group = piece - split * uint(args.groups);
  const int column = int(position.x) * B::kColumns, row = int(position.y) * B::kRows;
  const int rows = int(inner_of(args.product.rows)), depth = args.product.depth;
  if (column >= args.columns || row >= rows || group >= uint(args.groups) || split >= uint(all.splits))
    return;
  for (int i = int(thread_index); i < B::kRows; i += B::kThreads) {
    places[i] =
        place_of_window(args, row + i < rows ? block * uint(rows) + uint(row + i) : uint(args.pixels));
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const TensorStanding<B> standing(thread_index);
  const int begin = int(split) * all.split_depth, end = min(begin + all.split_depth, depth);
  const int first = begin + standing.chunk * B::kChunk, mine = standing.staged_row;
  Tap tap = {0, 0, 0, 0};
  tap.step(args, first);
  const Bring<B> bring = {
      x + (args.product.first[NPU_LEFT] + int64_t(group) * args.channels * args.x_channel),
      weights + ((int64_t(group) * args.columns + column + mine) * depth + first),
      places + mine,
      tap,
      end - first,
      int64_t(B::kRowsAtOnce) * depth,
      rows_there<B::kRightTurns>(mine, B::kRowsAtOnce, args.columns - column),
      place_of(mine, standing.chunk, B::kRowBytes)};
  TensorProducts<B, typename B::Element> products;
  multiply_stages<B, true>(products, memory, (end - begin + B::kDepth - 1) / B::kDepth, standing, args,
                           bring);
  const int64_t part = int64_t(position.z) * rows * args.columns;
  const Finish finish = {args, NPU_GATHER_ENDS, block_offsets(args.product, block), row, column, int(group),
                         part};
  hand_out<B>(products.total, memory, standing, finish);
}

// Pixels whose channels are fewer than a chunk of 16 bytes become chunks, with zeros after them: one for each
// thread.
template <typename T>
[[kernel]] void conv_tensor_pixels(constant ConvTensorArgs& all [[buffer(kBufferArgs)]],
                                   const device T* x [[buffer(kBufferLeft)]],
                                   device uint4* chunks [[buffer(kBufferConvChunks)]],
                                   uint at [[thread_position_in_grid]]) {
  constexpr int kChunk = 16 / int(sizeof(T));
  constant ConvArgs& args = all.conv;
  const uint width = uint(args.in[2]), height = uint(args.in[1]), depth = uint(args.in[0]);
  NPU_INPUTS_READY;
  if (at >= uint(all.chunks)) return;
  const uint w = at % width, line = at / width, h = line % height, plane = line / height;
  x += args.product.first[NPU_LEFT] + int64_t(plane / depth) * args.x_batch +
       int64_t(plane % depth) * args.x_step[0] + int64_t(h) * args.x_step[1] + int64_t(w) * args.x_step[2];
  T chunk[kChunk];
  NPU_UNROLL
  for (int c = 0; c < kChunk; ++c) chunk[c] = c < args.channels ? x[c * args.x_channel] : T(0.0f);
  chunks[at] = *(const thread uint4*)chunk;
}
NPU_INSTANTIATE(conv_tensor_pixels, half)
NPU_INSTANTIATE(conv_tensor_pixels, bfloat)

// Adds up what the splits left in the scratch, four columns of a group's row, in their order.
[[kernel]] void conv_tensor_sum(constant ConvTensorArgs& all [[buffer(kBufferArgs)]],
                                const device float* parts [[buffer(kBufferMatmulParts)]], NPU_ENDS,
                                uint3 at [[thread_position_in_grid]]) {
  constant ConvArgs& args = all.conv;
  const int column = int(at.x) * kSumColumns, row = int(at.y), many = args.columns - column;
  const uint group = at.z / uint(args.blocks), block = at.z - group * uint(args.blocks);
  const int rows = int(inner_of(args.product.rows));
  NPU_INPUTS_READY;
  if (many <= 0 || row >= rows || group >= uint(args.groups)) return;
  const int64_t step = int64_t(args.groups) * args.blocks * rows * args.columns;
  const device float* from = parts + (int64_t(at.z) * rows + row) * args.columns + column;
  float4 sums = float4(0.0f);
  for (int s = 0; s < all.splits; ++s, from += step) {
    sums += load_some(from, many, args.columns);
  }
  const Ends ends = NPU_GATHER_ENDS;
  const int first = int(group) * args.columns;
  finish_columns(sums, args.product, ends, row_offsets(args.product, block_offsets(args.product, block), row),
                 first + column, first + args.columns);
}

#define NPU_CONV_TENSOR(form, rows, columns, T, ...)                            \
  template [[host_name("conv_" form "_" #rows "x" #columns "_" #T)]] [[kernel]] \
  decltype(conv_tensor<TensorTile<T, rows, columns, __VA_ARGS__>>)              \
      conv_tensor<TensorTile<T, rows, columns, __VA_ARGS__>>;
#define NPU_CONV_TENSORS(T)                              \
  NPU_CONV_TENSOR("tensor", 128, 128, T, 2, 4, 3)        \
  NPU_CONV_TENSOR("tensor", 128, 64, T, 2, 2, 3)         \
  NPU_CONV_TENSOR("tensor", 64, 64, T, 2, 2, 4)          \
  NPU_CONV_TENSOR("tensor", 32, 64, T, 1, 4, 5)          \
  NPU_CONV_TENSOR("groups", 256, 128, T, 16, 1, 4, true) \
  NPU_CONV_TENSOR("groups", 128, 256, T, 8, 1, 4, true)  \
  NPU_CONV_TENSOR("groups", 128, 128, T, 8, 1, 6, true)  \
  NPU_CONV_TENSOR("groups", 64, 128, T, 4, 1, 8, true)   \
  NPU_CONV_TENSOR("groups", 128, 64, T, 8, 1, 8, true)   \
  NPU_CONV_TENSOR("groups", 64, 64, T, 4, 1, 12, true)
#if NPU_ONLY < 0 || NPU_ONLY == NPU_FLOAT32
NPU_CONV_TENSOR("tensor", 64, 64, float, 2, 2, 4)
NPU_CONV_TENSOR("tensor", 32, 64, float, 1, 4, 5)
#endif
#if NPU_ONLY < 0 || NPU_ONLY == NPU_FLOAT16
NPU_CONV_TENSORS(half)
#endif
#if NPU_ONLY < 0 || NPU_ONLY == NPU_BFLOAT16
NPU_CONV_TENSORS(bfloat)
#endif
