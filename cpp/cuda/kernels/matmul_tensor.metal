// Matrix products in blocks on NVIDIA's tensor cores: what metal/matmul.metal does on simdgroup matrices. The
// left side has neighbours along the depth, the right one along the depth (k_major) or the columns; rows of
// both start at multiples of 16 bytes.
#include "matmul.h"

constant bool kRightConstant [[function_constant(kFcMatmulTensorRightConstant)]];

#include "gemm_tensor.h"

// Threadgroups that follow each other have the same columns; else the same rows.
constant bool kRowsFirst [[function_constant(kFcMatmulRowsFirst)]];

// Where a column of a block is in the matrix: gated, each simdgroup's part has columns of results and then
// those of their gates.
template <typename B>
inline int result_of(int staged) {
  constexpr int kHalf = B::kPartColumns / 2;
  return kGated ? staged / B::kPartColumns * kHalf + staged % kHalf : staged;
}
template <typename B>
inline bool is_gate(int staged) {
  return kGated && staged % B::kPartColumns >= B::kPartColumns / 2;
}

// The chunks that a thread brings of every stage, one after the other along the depth.
template <typename B, bool kKMajor>
struct Bring {
  typedef typename B::Element T;
  // Of the right side, rows of columns: chunks of one, and rows that are brought at once.
  static constant constexpr int kAcross = B::kColumns / B::kChunk, kDown = B::kThreads / kAcross;
  static_assert(kKMajor || kDown % 8 == 0, "a thread's rows have their chunks in one place");

  const device T* left_of;   // the next chunk of the thread's first row
  const device T* right_of;  // or column
  int64_t left_turn, right_turn, gates;
  uint left_there, right_there;  // by turn
  int left_place, right_place, rest;
  int depth_left;  // from the thread's first chunk on

  Bring(constant MatmulArgs& args, const device T* left, const device T* right, int row, int column,
        int begin, int end, thread const TensorStanding<B>& standing) {
    const int mine = standing.staged_row, k = standing.chunk * B::kChunk;
    const int64_t row_step = step_of(args.product.rows, NPU_LEFT);
    left_of = left + ((row + mine) * row_step + (begin + k));
    left_turn = B::kRowsAtOnce * row_step;
    left_there = rows_there<B::kLeftTurns>(mine, B::kRowsAtOnce, int(inner_of(args.product.rows)) - row);
    left_place = place_of(mine, standing.chunk, B::kRowBytes);
    depth_left = end - begin - k;
    gates = args.product.columns * (kKMajor ? args.right_column : int64_t(1));
    if (kKMajor) {
      right_of = right + ((column + result_of<B>(mine)) * args.right_column + (begin + k));
      if (is_gate<B>(mine)) right_of += gates;
      right_turn = 0;
      right_there = 0;
      NPU_UNROLL
      for (int i = 0; i < B::kRightTurns; ++i) {
        if (column + result_of<B>(mine + i * B::kRowsAtOnce) < args.product.columns) right_there |= 1u << i;
      }
      right_place = left_place;
      rest = 0;
    } else {
      const int thread_index = mine * 8 + standing.chunk;
      const int staged = thread_index % kAcross * B::kChunk, first = thread_index / kAcross;
      right_of = right + ((begin + first) * args.right_depth + (column + result_of<B>(staged)));
      if (is_gate<B>(staged)) right_of += gates;
      right_turn = kDown * args.right_depth;
      right_there = uint(bytes_there<B>(args.product.columns - column - result_of<B>(staged)));
      right_place = place_of(first, thread_index % kAcross, B::kColumns * int(sizeof(T)));
      rest = end - begin - first;
    }
  }

  void bring_columns(constant MatmulArgs& args, threadgroup char* to, int bytes) const {
    static_assert(B::kPartColumns <= B::kRowsAtOnce || B::kPartColumns / 2 % B::kRowsAtOnce == 0,
                  "a thread's columns are results or gates in a whole turn");
    NPU_UNROLL
    for (int i = 0; i < B::kRightTurns; ++i) {
      constexpr int kAtOnce = B::kRowsAtOnce;
      const device T* from = right_of + result_of<B>(i * kAtOnce) * args.right_column;
      if (is_gate<B>(i * kAtOnce)) from += gates;
      npu::copy_line_async(to + i * kAtOnce * B::kRowBytes, from, (right_there >> i & 1) != 0 ? bytes : 0);
    }
  }

  void bring_depths(threadgroup char* to, int there) const {
    NPU_UNROLL
    for (int i = 0; i < B::kDepth / kDown; ++i) {
      npu::copy_async(to + i * kDown * B::kColumns * int(sizeof(T)), right_of + i * right_turn,
                      i * kDown < there ? int(right_there) : 0);
    }
  }

  // Starts the copies of the next stage.
  void bring_left(constant MatmulArgs& /*args*/, threadgroup char* to, int stage) {
    const int bytes = bytes_there<B>(depth_left - stage * B::kDepth);
    NPU_UNROLL
    for (int i = 0; i < B::kLeftTurns; ++i) {
      npu::copy_async(to + (left_place + i * B::kRowsAtOnce * B::kRowBytes), left_of + i * left_turn,
                      (left_there >> i & 1) != 0 ? bytes : 0);
    }
    left_of += B::kDepth;
  }
  void bring_right(constant MatmulArgs& args, threadgroup char* to, int stage) {
    to += B::kLeftBytes + right_place;
    if (kKMajor) {
      bring_columns(args, to, bytes_there<B>(depth_left - stage * B::kDepth));
      right_of += B::kDepth;
    } else {
      bring_depths(to, rest - stage * B::kDepth);
      right_of += B::kDepth * args.right_depth;
    }
  }
};

template <typename B, bool kKMajor>
[[kernel]] void matmul_tensor(constant MatmulArgs& args [[buffer(kBufferArgs)]],
                              const device typename B::Element* left [[buffer(kBufferLeft)]],
                              const device typename B::Element* right [[buffer(kBufferRight)]], NPU_ENDS,
                              threadgroup char* memory [[threadgroup(0)]],
                              uint3 group [[threadgroup_position_in_grid]],
                              uint thread_index [[thread_index_in_threadgroup]]) {
  const uint split = kSplits ? group.z / uint(args.blocks) : 0;
  const uint block = group.z - split * uint(args.blocks);
  const int across = int(kRowsFirst ? group.y : group.x), down = int(kRowsFirst ? group.x : group.y);
  const int column = across * (kGated ? B::kColumns / 2 : B::kColumns), row = down * B::kRows;
  const int rows = int(inner_of(args.product.rows));
  if (column >= args.product.columns || row >= rows) return;
  if (block >= uint(args.blocks) || split >= uint(args.splits)) return;
  const RowOffsets offsets = block_offsets(args.product, block);
  const TensorStanding<B> standing(thread_index);
  const int begin = int(split) * args.split_depth, end = min(begin + args.split_depth, args.product.depth);
  const Bring<B, kKMajor> bring(args, left + offsets.of[NPU_LEFT], right + offsets.of[NPU_RIGHT], row, column,
                                begin, end, standing);
  TensorProducts<B, typename B::Element> products;
  multiply_stages<B, kKMajor>(products, memory, (end - begin + B::kDepth - 1) / B::kDepth, standing, args,
                              bring);
  const int64_t part = int64_t(group.z) * rows * args.product.columns * (kGated ? 2 : 1);
  const Finish finish = {args, NPU_GATHER_ENDS, offsets, row, column, part};
  hand_out<B>(products.total, memory, standing, finish);
}

#define NPU_MATMUL_TENSOR(form, rows, columns, major, k_major, T, ...)                       \
  template [[host_name("matmul_" form "_" #rows "x" #columns "_" #major "_" #T)]] [[kernel]] \
  decltype(matmul_tensor<TensorTile<T, rows, columns, __VA_ARGS__>, k_major>)                \
      matmul_tensor<TensorTile<T, rows, columns, __VA_ARGS__>, k_major>;
#define NPU_MATMUL_TENSORS(T, major, k_major)                       \
  NPU_MATMUL_TENSOR("tensor", 128, 128, major, k_major, T, 2, 4, 3) \
  NPU_MATMUL_TENSOR("tensor", 128, 64, major, k_major, T, 2, 2, 3)  \
  NPU_MATMUL_TENSOR("tensor", 64, 64, major, k_major, T, 2, 2, 4)   \
  NPU_MATMUL_TENSOR("tensor", 32, 64, major, k_major, T, 1, 4, 5)
#define NPU_MATMUL_GROUPS(T)                                              \
  NPU_MATMUL_TENSOR("groups", 256, 128, k_major, true, T, 16, 1, 4, true) \
  NPU_MATMUL_TENSOR("groups", 128, 256, k_major, true, T, 8, 1, 4, true)  \
  NPU_MATMUL_TENSOR("groups", 128, 128, k_major, true, T, 8, 1, 6, true)  \
  NPU_MATMUL_TENSOR("groups", 64, 128, k_major, true, T, 4, 1, 8, true)   \
  NPU_MATMUL_TENSOR("groups", 128, 64, k_major, true, T, 8, 1, 8, true)   \
  NPU_MATMUL_TENSOR("groups", 64, 64, k_major, true, T, 4, 1, 12, true)
#if NPU_ONLY < 0 || NPU_ONLY == NPU_FLOAT32
NPU_MATMUL_TENSOR("tensor", 64, 64, k_major, true, float, 2, 2, 4)
NPU_MATMUL_TENSOR("tensor", 32, 64, k_major, true, float, 1, 4, 5)
#endif
#if NPU_ONLY < 0 || NPU_ONLY == NPU_FLOAT16
NPU_MATMUL_TENSORS(half, k_major, true)
NPU_MATMUL_TENSORS(half, n_major, false)
NPU_MATMUL_GROUPS(half)
#endif
#if NPU_ONLY < 0 || NPU_ONLY == NPU_BFLOAT16
NPU_MATMUL_TENSORS(bfloat, k_major, true)
NPU_MATMUL_TENSORS(bfloat, n_major, false)
NPU_MATMUL_GROUPS(bfloat)
#endif
