// Matrix products in blocks on simdgroup matrices. Products with few rows: matmul_rows.metal.
#include "gemm.h"
#include "matmul.h"

constant int kLeftAlong [[function_constant(kFcMatmulLeftAlong)]];    // Neighbours; lines are rows
constant int kRightAlong [[function_constant(kFcMatmulRightAlong)]];  // and here columns

template <typename B>
inline void stage_left(threadgroup typename B::Element* to, const device typename B::Element* from,
                       constant MatmulArgs& args, int row, int k, int end, int thread_index) {
  const int64_t row_step = step_of(args.product.rows, NPU_LEFT);
  const int rows = inner_of(args.product.rows) - row;
  from += int64_t(row) * row_step + int64_t(k) * args.left_depth;
  if (Neighbours(kLeftAlong) == Neighbours::kOfDepth) {
    stage_fours<typename B::Element, B::kRows, B::kDepth, B::kKMajorStride, B::kThreads>(
        to, from, row_step, rows, end - k, thread_index);
  } else {
    stage_any<typename B::Element, B::kRows, B::kDepth, B::kKMajorStride, B::kThreads>(
        to, from, row_step, args.left_depth, rows, end - k, Neighbours(kLeftAlong) == Neighbours::kOfLines,
        thread_index);
  }
}

// kCount columns of the right side.
template <typename B, bool kKMajor, int kCount>
inline void stage_columns(threadgroup typename B::Element* to, const device typename B::Element* from,
                          constant MatmulArgs& args, int columns, int depth, int thread_index) {
  typedef typename B::Element T;
  if (kKMajor) {
    stage_fours<T, kCount, B::kDepth, B::kKMajorStride, B::kThreads>(to, from, args.right_column, columns,
                                                                     depth, thread_index);
  } else if (Neighbours(kRightAlong) == Neighbours::kOfLines) {
    stage_fours<T, B::kDepth, kCount, B::kNMajorStride, B::kThreads>(to, from, args.right_depth, depth,
                                                                     columns, thread_index);
  } else {
    stage_any<T, B::kDepth, kCount, B::kNMajorStride, B::kThreads>(
        to, from, args.right_depth, args.right_column, depth, columns, false, thread_index);
  }
}

// Gated, each part of the block has columns of the results and then those of their gates: see hand_out.
template <typename B, bool kKMajor>
inline void stage_right(threadgroup typename B::Element* to, const device typename B::Element* from,
                        constant MatmulArgs& args, int column, int k, int end, int thread_index) {
  constexpr int kCount = B::kPartColumns / 2, kStep = kKMajor ? B::kKMajorStride : 1;
  from += int64_t(k) * args.right_depth;
  const int columns = args.product.columns - column;
  if (!kGated) {
    stage_columns<B, kKMajor, B::kColumns>(to, from + int64_t(column) * args.right_column, args, columns,
                                           end - k, thread_index);
    return;
  }
  NPU_UNROLL
  for (int piece = 0; piece < 2 * B::kAcross; ++piece) {
    const int first = piece / 2 * kCount;
    const int64_t at = column + first + int64_t(piece % 2) * args.product.columns;
    stage_columns<B, kKMajor, kCount>(to + piece * kCount * kStep, from + at * args.right_column, args,
                                      columns - first, end - k, thread_index);
  }
}

template <typename B, bool kKMajor>
[[kernel]] void matmul(constant MatmulArgs& args [[buffer(kBufferArgs)]],
                       const device typename B::Element* left [[buffer(kBufferLeft)]],
                       const device typename B::Element* right [[buffer(kBufferRight)]], NPU_ENDS,
                       uint3 group [[threadgroup_position_in_grid]],
                       uint thread_index [[thread_index_in_threadgroup]],
                       uint simdgroup [[simdgroup_index_in_threadgroup]],
                       uint lane [[thread_index_in_simdgroup]]) {
  threadgroup float4 memory[B::kMemory];
  threadgroup typename B::Element* staged_left = (threadgroup typename B::Element*)memory;
  threadgroup typename B::Element* staged_right = staged_left + B::kRows * B::kKMajorStride;
  const uint split = kSplits ? group.z / uint(args.blocks) : 0;
  const uint block = group.z - split * uint(args.blocks);
  const int column = int(group.x) * (kGated ? B::kColumns / 2 : B::kColumns), row = int(group.y) * B::kRows;
  const int rows = int(inner_of(args.product.rows));
  if (column >= args.product.columns || row >= rows) return;
  if (block >= uint(args.blocks) || split >= uint(args.splits)) return;
  const RowOffsets offsets = block_offsets(args.product, block);
  const Standing<B> standing(simdgroup, lane);
  const int begin = int(split) * args.split_depth, end = min(begin + args.split_depth, args.product.depth);
  Sums<B> sums;
  for (int k = begin; k < end; k += B::kDepth) {
    stage_left<B>(staged_left, left + offsets.of[NPU_LEFT], args, row, k, end, int(thread_index));
    stage_right<B, kKMajor>(staged_right, right + offsets.of[NPU_RIGHT], args, column, k, end,
                            int(thread_index));
    threadgroup_barrier(mem_flags::mem_threadgroup);
    multiply<B, kKMajor>(sums, staged_left, staged_right, standing);
    sums.fold_after(k - begin + B::kDepth);
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  const int64_t part = int64_t(group.z) * rows * args.product.columns * (kGated ? 2 : 1);
  const Finish finish = {args, NPU_GATHER_ENDS, offsets, row, column, part};
  hand_out(sums, (threadgroup float*)memory, standing, simdgroup, finish);
}

// Four columns of what the splits left in the scratch, added up in their order.
inline float4 sum_of_parts(constant MatmulArgs& args, const device float* parts, uint block, int row,
                           int64_t width, int column, int many) {
  float4 sums = float4(0.0f);
  for (int s = 0; s < args.splits; ++s) {
    const int64_t rows_before = (int64_t(s) * args.blocks + block) * inner_of(args.product.rows) + row;
    const device float* from = parts + rows_before * width + column;
    sums += load_some(from, many, width);
  }
  return sums;
}

[[kernel]] void matmul_sum(constant MatmulArgs& args [[buffer(kBufferArgs)]],
                           const device float* parts [[buffer(kBufferMatmulParts)]], NPU_ENDS,
                           uint3 at [[thread_position_in_grid]]) {
  const int columns = args.product.columns, rows = int(inner_of(args.product.rows));
  const int column = int(at.x) * kSumColumns, row = int(at.y), many = columns - column;
  if (many <= 0 || row >= rows || at.z >= uint(args.blocks)) return;
  const int64_t width = kGated ? 2 * int64_t(columns) : columns;
  const float4 sums = sum_of_parts(args, parts, at.z, row, width, column, many);
  float4 others = float4(0.0f);
  if (kGated) others = sum_of_parts(args, parts + columns, at.z, row, width, column, many);
  const Ends ends = NPU_GATHER_ENDS;
  const RowOffsets offsets = row_offsets(args.product, block_offsets(args.product, at.z), row);
  finish_columns(sums, others, args.product, ends, offsets, column, columns);
}

template <typename T>
inline float sum_of_column(constant MatmulArgs& args, const device T* a, const device T* b) {
  float total = 0.0f;
  for (int k = 0; k < args.product.depth;) {  // sums of sums: see Sums
    const int end = min(k + 64, args.product.depth);
    float sum = 0.0f;
    for (; k < end; ++k, a += args.left_depth, b += args.right_depth) sum = fma(float(*a), float(*b), sum);
    total += sum;
  }
  return total;
}

// One thread for each element of the result, for GPUs without simdgroup matrices.
template <typename T>
[[kernel]] void matmul_single(constant MatmulArgs& args [[buffer(kBufferArgs)]],
                              const device T* left [[buffer(kBufferLeft)]],
                              const device T* right [[buffer(kBufferRight)]], NPU_ENDS,
                              uint3 at [[thread_position_in_grid]]) {
  const int column = int(at.x), row = int(at.y);
  if (column >= args.product.columns || row >= int(inner_of(args.product.rows)) || at.z >= uint(args.blocks))
    return;
  const RowOffsets offsets = row_offsets(args.product, block_offsets(args.product, at.z), row);
  const device T* a = left + offsets.of[NPU_LEFT];
  const device T* b = right + offsets.of[NPU_RIGHT] + int64_t(column) * args.right_column;
  const float sum = sum_of_column(args, a, b);
  float other = 0.0f;
  if (kGated) other = sum_of_column(args, a, b + int64_t(args.product.columns) * args.right_column);
  const Ends ends = NPU_GATHER_ENDS;
  finish_one(sum, other, args.product, ends, offsets, column);
}

#define NPU_MATMUL(name, T, k_major, ...)         \
  template [[host_name(#name "_" #T)]] [[kernel]] \
  decltype(matmul<Blocking<T, __VA_ARGS__>, k_major>) matmul<Blocking<T, __VA_ARGS__>, k_major>;
#define NPU_MATMULS(T, depth)                                                          \
  NPU_MATMUL(matmul_large_k_major, T, true, kLargeBlock, kLargeBlock, depth, 2, 2, 1)  \
  NPU_MATMUL(matmul_large_n_major, T, false, kLargeBlock, kLargeBlock, depth, 2, 2, 1) \
  NPU_MATMUL(matmul_small_k_major, T, true, kSmallBlock, kSmallBlock, 32, 2, 2, 2)     \
  NPU_MATMUL(matmul_small_n_major, T, false, kSmallBlock, kSmallBlock, 32, 2, 2, 2)
#if NPU_ONLY < 0 || NPU_ONLY == NPU_FLOAT32
NPU_MATMULS(float, 16)
NPU_INSTANTIATE(matmul_single, float)
#endif
#if NPU_ONLY < 0 || NPU_ONLY == NPU_FLOAT16
NPU_MATMULS(half, 32)
NPU_INSTANTIATE(matmul_single, half)
#endif
#if NPU_ONLY < 0 || NPU_ONLY == NPU_BFLOAT16
NPU_MATMULS(bfloat, 32)
NPU_INSTANTIATE(matmul_single, bfloat)
#endif
