// Blocks of a matrix product on NVIDIA's tensor cores, shared by matmul and conv.
//
// A threadgroup makes kRows x kColumns of the result; kDown x kAcross simdgroups each make a part of it. Both
// factors pass through threadgroup memory in stages of kRowBytes of the depth, kStages of which are on their
// way at once. A staged row has 8 chunks of 16 bytes; which chunk lies where depends on the row, so that
// eight rows of one chunk are in different banks. A file that includes this says kRightConstant: whether no
// launch of the plan writes the right side, which then is on its way before the left one is there.
#pragma once

#include "epilogue.h"
#include "tensor_tiles.h"

template <typename T, int kRows_, int kColumns_, int kDown_, int kAcross_, int kStages_,
          bool kGroups_ = false>
struct TensorTile {
  typedef T Element;
  // Four simdgroups multiply 64 rows together, straight from threadgroup memory: since Hopper.
  static constant constexpr bool kGroups = kGroups_;
  static constant constexpr int kRows = kRows_, kColumns = kColumns_, kStages = kStages_;
  static constant constexpr int kDown = kDown_, kAcross = kAcross_;
  static constant constexpr int kThreads = kDown * kAcross * int(kSimd);
  static constant constexpr int kRowBytes = kTensorRowBytes;
  static constant constexpr int kChunk = 16 / int(sizeof(T));         // elements
  static constant constexpr int kDepth = kRowBytes / int(sizeof(T));  // of a stage
  static constant constexpr int kSteps = kRowBytes / 32;              // of a stage: multiplications
  static constant constexpr int kPartRows = kRows / kDown, kPartColumns = kColumns / kAcross;
  static constant constexpr int kTilesDown = kPartRows / 16, kTilesAcross = kPartColumns / 8;
  static constant constexpr int kLeftBytes = kRows * kRowBytes;
  static constant constexpr int kStageBytes = kLeftBytes + kColumns * kRowBytes;
  // What a thread brings of a stage: one chunk of every kRowsAtOnce-th row, which all lie alike.
  static constant constexpr int kRowsAtOnce = kThreads / 8;
  static constant constexpr int kLeftTurns = kRows / kRowsAtOnce, kRightTurns = kColumns / kRowsAtOnce;
  static_assert(kRowsAtOnce % 8 == 0, "a thread's rows have their chunks in one place");
};

// Where a thread stands in its threadgroup.
template <typename B>
struct TensorStanding {
  int row, column, lane;  // row and column of the simdgroup's part in the block
  int staged_row, chunk;  // what the thread brings

  TensorStanding(uint thread_index) {
    const int simdgroup = int(thread_index) / int(kSimd);
    row = simdgroup / B::kAcross * B::kPartRows;
    column = simdgroup % B::kAcross * B::kPartColumns;
    lane = int(thread_index) % int(kSimd);
    staged_row = int(thread_index) / 8;
    chunk = int(thread_index) % 8;
  }
};

// Sets of the sums of one simdgroup.
template <typename B>
struct TensorSums {
  npu::LaneSums of[B::kTilesDown][B::kTilesAcross];

  void clear() {
    NPU_UNROLL
    for (int i = 0; i < B::kTilesDown; ++i) {
      NPU_UNROLL
      for (int j = 0; j < B::kTilesAcross; ++j) of[i][j] = {{0.0f, 0.0f, 0.0f, 0.0f}};
    }
  }
};

// The products of 16-bit elements are exact, and tensor cores add them up in float.
template <typename B, typename T>
struct TensorProducts {
  TensorSums<B> total;

  TensorProducts() { total.clear(); }

  void add(npu::Matrices left[B::kTilesDown], npu::Matrices right[B::kTilesAcross / 2]) {
    NPU_UNROLL
    for (int i = 0; i < B::kTilesDown; ++i) {
      NPU_UNROLL
      for (int j = 0; j < B::kTilesAcross; ++j) {
        const int half_of = j % 2 * 2;
        npu::multiply(total.of[i][j], left[i], right[j / 2].of[half_of], right[j / 2].of[half_of + 1],
                      T(0.0f));
      }
    }
  }
  void fold() {}
};

// A product of two floats is that of their high parts, and what each low part adds. Tensor cores cut off what
// they add up, so the sums of a stage are added to the others outside of them.
template <typename B>
struct TensorProducts<B, float> {
  TensorSums<B> total, large, small;

  TensorProducts() {
    total.clear();
    large.clear();
    small.clear();
  }

  void add(npu::Matrices left[B::kTilesDown], npu::Matrices right[B::kTilesAcross / 2]) {
    npu::MatrixPairs a[B::kTilesDown], b[B::kTilesAcross / 2];
    NPU_UNROLL
    for (int i = 0; i < B::kTilesDown; ++i) a[i] = npu::pairs_of(left[i]);
    NPU_UNROLL
    for (int j = 0; j < B::kTilesAcross / 2; ++j) b[j] = npu::pairs_of(right[j]);
    NPU_UNROLL
    for (int i = 0; i < B::kTilesDown; ++i) {
      NPU_UNROLL
      for (int j = 0; j < B::kTilesAcross; ++j) {
        const int k = j % 2 * 2;
        const npu::MatrixPairs pairs = b[j / 2];
        npu::multiply_tf32(small.of[i][j], a[i].low, pairs.high[k], pairs.high[k + 1]);
        npu::multiply_tf32(small.of[i][j], a[i].high, pairs.low[k], pairs.low[k + 1]);
        npu::multiply_tf32(large.of[i][j], a[i].high, pairs.high[k], pairs.high[k + 1]);
      }
    }
  }

  // The low parts would make NaN of an infinity times their zeros.
  void fold() {
    NPU_UNROLL
    for (int i = 0; i < B::kTilesDown; ++i) {
      NPU_UNROLL
      for (int j = 0; j < B::kTilesAcross; ++j) {
        NPU_UNROLL
        for (int k = 0; k < 4; ++k) {
          const float most = large.of[i][j].of[k], rest = small.of[i][j].of[k];
          total.of[i][j].of[k] += fabs(most) < INFINITY ? most + rest : most;
        }
      }
    }
    large.clear();
    small.clear();
  }
};

// Multiplies a staged pair. The right side has a row of depth for each column, or, not kKMajor, a row of
// columns for each step of the depth: elements of 16 bits only.
template <typename B, bool kKMajor>
inline void multiply_stage(thread TensorProducts<B, typename B::Element>& products,
                           const threadgroup char* left, thread const TensorStanding<B>& standing) {
  const threadgroup char* right = left + B::kLeftBytes;
  constexpr int kColumnBytes = B::kColumns * int(sizeof(typename B::Element));
  const int matrix = standing.lane / 8, line = standing.lane % 8;
  NPU_UNROLL
  for (int step = 0; step < B::kSteps; ++step) {
    npu::Matrices a[B::kTilesDown], b[B::kTilesAcross / 2];
    NPU_UNROLL
    for (int i = 0; i < B::kTilesDown; ++i) {
      const int row = standing.row + i * 16 + (matrix & 1) * 8 + line;
      npu::load_matrices(a[i], left + place_of(row, step * 2 + matrix / 2, B::kRowBytes));
    }
    NPU_UNROLL
    for (int j = 0; j < B::kTilesAcross / 2; ++j) {
      const int column = standing.column + j * 16;
      if (kKMajor) {
        const int row = column + matrix / 2 * 8 + line;
        npu::load_matrices(b[j], right + place_of(row, step * 2 + (matrix & 1), B::kRowBytes));
      } else {
        const int row = step * 16 + (matrix & 1) * 8 + line;
        npu::load_turned_matrices(b[j], right + place_of(row, column / 8 + matrix / 2, kColumnBytes));
      }
    }
    products.add(a, b);
  }
  products.fold();
}

// Starts the copies of the first kStages stages, those of weights before the other side is there.
template <typename B, int kStages, typename Args, typename Bring>
inline void bring_first(thread Bring& bring, threadgroup char* memory, int stages, constant Args& args) {
  if (!kRightConstant) NPU_INPUTS_READY;
  NPU_UNROLL
  for (int s = 0; s < kStages; ++s) {
    if (s < stages) bring.bring_right(args, memory + s * B::kStageBytes, s);
  }
  NPU_INPUTS_READY;
  NPU_UNROLL
  for (int s = 0; s < kStages; ++s) {
    if (s < stages) bring.bring_left(args, memory + s * B::kStageBytes, s);
    npu::end_copies();
  }
}

template <typename B, typename Args, typename Bring>
inline void bring_next(thread Bring& bring, threadgroup char* to, int stage, constant Args& args) {
  bring.bring_right(args, to, stage);
  bring.bring_left(args, to, stage);
}

// Sums up stages: bring_left and bring_right(args, memory, stage) start a thread's
// copies of one, each in the order of the stages.
template <typename B, bool kKMajor, bool kGroups>
struct Stages {
  template <typename Args, typename Bring>
  static void sum(thread TensorProducts<B, typename B::Element>& products, threadgroup char* memory,
                  int stages, thread const TensorStanding<B>& standing, constant Args& args, Bring bring) {
    bring_first<B, B::kStages - 1>(bring, memory, stages, args);
    int now = 0, next = B::kStages - 1;  // where they lie
    for (int s = 0; s < stages; ++s) {
      npu::wait_for_copies<B::kStages - 2>();
      threadgroup_barrier(
          mem_flags::mem_threadgroup);  // all have the stage, and are done with the one before
      if (s + B::kStages - 1 < stages)
        bring_next<B>(bring, memory + next * B::kStageBytes, s + B::kStages - 1, args);
      npu::end_copies();
      multiply_stage<B, kKMajor>(products, memory + now * B::kStageBytes, standing);
      now = now + 1 == B::kStages ? 0 : now + 1;
      next = next + 1 == B::kStages ? 0 : next + 1;
    }
  }
};

// In groups of simdgroups: one stage is multiplied while the one before still is, so copies go where the one
// before that was.
template <typename B>
struct Stages<B, true, true> {
  template <typename Args, typename Bring>
  static void sum(thread TensorProducts<B, typename B::Element>& products, threadgroup char* memory,
                  int stages, thread const TensorStanding<B>& standing, constant Args& args, Bring bring) {
    typedef typename B::Element T;
    bring_first<B, B::kStages - 2>(bring, memory, stages, args);
    const int group = standing.row / 64 * 64 * B::kRowBytes;  // its rows
    int now = 0, next = B::kStages - 2;
    for (int s = 0; s < stages; ++s) {
      npu::wait_for_copies<B::kStages - 3>();
      npu::show_copies();
      threadgroup_barrier(
          mem_flags::mem_threadgroup);  // all have the stage, and are done with the last but one
      const threadgroup char* left = memory + now * B::kStageBytes;
      npu::begin_products();
      NPU_UNROLL
      for (int step = 0; step < B::kSteps; ++step)
        npu::multiply_group(products.total.of[0], left + group, left + B::kLeftBytes, step, T(0.0f));
      npu::end_products();
      if (s + B::kStages - 2 < stages)
        bring_next<B>(bring, memory + next * B::kStageBytes, s + B::kStages - 2, args);
      npu::end_copies();
      npu::wait_for_products<1>();
      now = now + 1 == B::kStages ? 0 : now + 1;
      next = next + 1 == B::kStages ? 0 : next + 1;
    }
    npu::wait_for_products<0>();
  }
};

template <typename B, bool kKMajor, typename Args, typename Bring>
inline void multiply_stages(thread TensorProducts<B, typename B::Element>& products, threadgroup char* memory,
                            int stages, thread const TensorStanding<B>& standing, constant Args& args,
                            Bring bring) {
  Stages<B, kKMajor, B::kGroups>::sum(products, memory, stages, standing, args, bring);
}

// What of a chunk is there, in bytes, where `elements` are from its start on.
template <typename B>
inline int bytes_there(int elements) {
  return clamp(elements, 0, B::kChunk) * int(sizeof(typename B::Element));
}

// Bit i: whether row `first` + i * `step` is one of `rows`.
template <int kTurns>
inline uint rows_there(int first, int step, int rows) {
  uint bits = 0;
  NPU_UNROLL
  for (int i = 0; i < kTurns; ++i) bits |= first + i * step < rows ? 1u << i : 0u;
  return bits;
}

// Hands the sums out four columns of a row at a time, 16 rows of a simdgroup after each other: put(row in
// block, column in block, sums, others). Gated, a part's columns are results first and their gates after
// them, and the column is that of the result. All of a threadgroup come here, and the stages' memory is free
// for sums.
template <typename B, typename Put>
inline void hand_out(thread const TensorSums<B>& sums, threadgroup char* memory,
                     thread const TensorStanding<B>& standing, Put put) {
  constexpr int kStride = B::kPartColumns + 4;  // keeps rows in different banks
  static_assert(B::kDown * B::kAcross * 16 * kStride * 4 <= B::kStages * B::kStageBytes,
                "the sums have room");
  const int results = kGated ? B::kPartColumns / 2 : B::kPartColumns, fours = results / 4;
  const int part = standing.row / B::kPartRows * B::kAcross + standing.column / B::kPartColumns;
  const int first = kGated ? standing.column / 2 : standing.column;
  threadgroup float* strip = (threadgroup float*)memory + part * 16 * kStride;
  npu::wait_for_copies<0>();
  threadgroup_barrier(mem_flags::mem_threadgroup);
  NPU_UNROLL
  for (int i = 0; i < B::kTilesDown; ++i) {
    NPU_UNROLL
    for (int j = 0; j < B::kTilesAcross; ++j) {
      threadgroup float* to = strip + standing.lane / 4 * kStride + j * 8 + standing.lane % 4 * 2;
      *(threadgroup float2*)to = float2(sums.of[i][j].of[0], sums.of[i][j].of[1]);
      *(threadgroup float2*)(to + 8 * kStride) = float2(sums.of[i][j].of[2], sums.of[i][j].of[3]);
    }
    simdgroup_barrier(mem_flags::mem_threadgroup);
    for (int f = standing.lane; f < 16 * fours; f += int(kSimd)) {
      const int row = f / fours, column = f % fours * 4;
      const threadgroup float* from = strip + row * kStride + column;
      float4 others = float4(0.0f);
      if (kGated) others = *(const threadgroup float4*)(from + results);
      put(standing.row + i * 16 + row, first + column, *(const threadgroup float4*)from, others);
    }
    simdgroup_barrier(mem_flags::mem_threadgroup);
  }
}
