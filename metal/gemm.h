// Blocks of a matrix product on simdgroup matrices, shared by matmul and conv.
//
// A threadgroup makes kRows x kColumns of the result. Blocks of both factors, kDepth deep, are staged in
// threadgroup memory; kDown x kAcross simdgroups each multiply their part of them, and kSplitK sets of such
// simdgroups share the depth of a block.
#pragma once

#include "epilogue.h"
#include "stage.h"

template <typename T, int kRows_, int kColumns_, int kDepth_, int kDown_, int kAcross_, int kSplitK_>
struct Blocking {
  typedef T Element;
  static constant constexpr int kRows = kRows_, kColumns = kColumns_, kDepth = kDepth_;
  static constant constexpr int kDown = kDown_, kAcross = kAcross_, kSplitK = kSplitK_;
  static constant constexpr int kThreads = kDown * kAcross * kSplitK * int(kSimd);
  static constant constexpr int kPad = 16 / int(sizeof(T));       // keeps rows in different banks
  static constant constexpr int kKMajorStride = kDepth + kPad;    // of rows of depth
  static constant constexpr int kNMajorStride = kColumns + kPad;  // of rows of columns
  static constant constexpr int kPartRows = kRows / kDown, kPartColumns = kColumns / kAcross;
  static constant constexpr int kMatricesDown = kPartRows / 8, kMatricesAcross = kPartColumns / 8;
  // Threadgroup memory, in float4: the staged blocks, and after them strips of results in the same memory.
  static constant constexpr int kLeftBytes = kRows * kKMajorStride * int(sizeof(T));
  static constant constexpr int kKMajorBytes = kColumns * kKMajorStride * int(sizeof(T));
  static constant constexpr int kNMajorBytes = kDepth * kNMajorStride * int(sizeof(T));
  static constant constexpr int kRightBytes = kKMajorBytes > kNMajorBytes ? kKMajorBytes : kNMajorBytes;
  static constant constexpr int kStripStride = kPartColumns + 4;
  static constant constexpr int kStrip = 8 * kStripStride;  // floats of one simdgroup
  static constant constexpr int kStripBytes = kStrip * 4 * kDown * kAcross * kSplitK;
  static constant constexpr int kStagedBytes = kLeftBytes + kRightBytes;
  static constant constexpr int kMemory = (kStagedBytes > kStripBytes ? kStagedBytes : kStripBytes) / 16;
};

static_assert(Blocking<float, kLargeBlock, kLargeBlock, 16, 2, 2, 1>::kThreads == kLargeBlockThreads &&
                  Blocking<float, kSmallBlock, kSmallBlock, 32, 2, 2, 2>::kThreads == kSmallBlockThreads &&
                  Blocking<float, kTinyRows, kSmallBlock, 64, 1, 2, 4>::kThreads == kSmallBlockThreads,
              "the C++ launches threadgroups of this size");

// Where a thread stands in its threadgroup.
template <typename B>
struct Standing {
  int k_split, row, column, lane;  // row and column of the simdgroup's part in the block

  Standing(uint simdgroup, uint lane_) {
    const int part = int(simdgroup) % (B::kDown * B::kAcross);
    k_split = int(simdgroup) / (B::kDown * B::kAcross);
    row = part / B::kAcross * B::kPartRows;
    column = part % B::kAcross * B::kPartColumns;
    lane = int(lane_);
  }
};

// The sums of one simdgroup. float32 operands are summed in pieces: a sum of sums is more exact than one long
// sum. Half ones are rounded more than that when they are stored.
template <typename B>
struct Sums {
  static constant constexpr bool kFolds = sizeof(typename B::Element) == 4;
  static constant constexpr int kLongest = 128;  // of a piece

  simdgroup_float8x8 piece[B::kMatricesDown][B::kMatricesAcross];
  simdgroup_float8x8 total[B::kMatricesDown][B::kMatricesAcross];

  Sums() {
    NPU_UNROLL
    for (int i = 0; i < B::kMatricesDown; ++i) {
      NPU_UNROLL
      for (int j = 0; j < B::kMatricesAcross; ++j) {
        piece[i][j] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
        if (kFolds) total[i][j] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
      }
    }
  }

  // Adds each lane's elements, wherever they are in the matrix.
  void fold() {
    if (!kFolds) return;
    NPU_UNROLL
    for (int i = 0; i < B::kMatricesDown; ++i) {
      NPU_UNROLL
      for (int j = 0; j < B::kMatricesAcross; ++j) {
        total[i][j].thread_elements()[0] += piece[i][j].thread_elements()[0];
        total[i][j].thread_elements()[1] += piece[i][j].thread_elements()[1];
        piece[i][j] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
      }
    }
  }
  void fold_after(int depth) {
    if (depth % kLongest == 0) fold();
  }

  void store_strip(int i, threadgroup float* strip) {
    NPU_UNROLL
    for (int j = 0; j < B::kMatricesAcross; ++j) {
      if (kFolds) {
        simdgroup_store(total[i][j], strip + j * 8, B::kStripStride);
      } else {
        simdgroup_store(piece[i][j], strip + j * 8, B::kStripStride);
      }
    }
  }
};

// Multiplies the staged blocks. Where the right one is kKMajor, it has a row of depth for each column.
template <typename B, bool kKMajor>
inline void multiply(thread Sums<B>& sums, const threadgroup typename B::Element* left,
                     const threadgroup typename B::Element* right, thread const Standing<B>& standing) {
  typedef simdgroup_matrix<typename B::Element, 8, 8> Matrix;
  constexpr int kSteps = B::kDepth / B::kSplitK;
  NPU_UNROLL
  for (int step = 0; step < kSteps; step += 8) {
    const int k = standing.k_split * kSteps + step;
    Matrix a[B::kMatricesDown], b[B::kMatricesAcross];
    NPU_UNROLL
    for (int i = 0; i < B::kMatricesDown; ++i) {
      simdgroup_load(a[i], left + (standing.row + i * 8) * B::kKMajorStride + k, B::kKMajorStride);
    }
    NPU_UNROLL
    for (int j = 0; j < B::kMatricesAcross; ++j) {
      const int column = standing.column + j * 8;
      if (kKMajor) {
        simdgroup_load(b[j], right + column * B::kKMajorStride + k, B::kKMajorStride, ulong2(0), true);
      } else {
        simdgroup_load(b[j], right + k * B::kNMajorStride + column, B::kNMajorStride);
      }
    }
    NPU_UNROLL
    for (int i = 0; i < B::kMatricesDown; ++i) {
      NPU_UNROLL
      for (int j = 0; j < B::kMatricesAcross; ++j) {
        simdgroup_multiply_accumulate(sums.piece[i][j], a[i], b[j], sums.piece[i][j]);
      }
    }
  }
}

// Hands the sums out four columns of a row at a time, strip by strip: put(row in block, column in block,
// sums). Gated, a part's columns are results first and their gates after them: put(row in block, column
// of the result in block, sums, others). The threadgroup has passed a barrier since it last read `memory`.
template <typename B, typename Put>
inline void hand_out(thread Sums<B>& sums, threadgroup float* memory, thread const Standing<B>& standing,
                     uint simdgroup, Put put) {
  constexpr int kParts = B::kDown * B::kAcross;
  const int results = kGated ? B::kPartColumns / 2 : B::kPartColumns;  // of a row of a part
  const int fours_across = results / 4;
  sums.fold();
  NPU_UNROLL
  for (int i = 0; i < B::kMatricesDown; ++i) {
    sums.store_strip(i, memory + int(simdgroup) * B::kStrip);
    if (B::kSplitK > 1) {
      threadgroup_barrier(mem_flags::mem_threadgroup);
    } else {
      simdgroup_barrier(mem_flags::mem_threadgroup);
    }
    // Simdgroups that split the depth of a part share the handing out as well.
    const threadgroup float* strip = memory + (int(simdgroup) % kParts) * B::kStrip;
    for (int f = standing.lane + standing.k_split * int(kSimd); f < 8 * fours_across;
         f += int(kSimd) * B::kSplitK) {
      const int row = f / fours_across, column = f % fours_across * 4;
      const threadgroup float* from = strip + row * B::kStripStride + column;
      float4 all = *(const threadgroup float4*)from, others = float4(0.0f);
      if (kGated) others = *(const threadgroup float4*)(from + results);
      NPU_UNROLL
      for (int s = 1; s < B::kSplitK; ++s) {
        all += *(const threadgroup float4*)(from + s * kParts * B::kStrip);
        if (kGated) others += *(const threadgroup float4*)(from + s * kParts * B::kStrip + results);
      }
      const int first = kGated ? standing.column / 2 : standing.column;
      put(standing.row + i * 8 + row, first + column, all, others);
    }
    if (B::kSplitK > 1) {
      threadgroup_barrier(mem_flags::mem_threadgroup);
    } else {
      simdgroup_barrier(mem_flags::mem_threadgroup);
    }
  }
}
