// Products of one row, at the speed at which memory gives the right side; k_major, all of it constant.
//
// A threadgroup for each core, whose simdgroups make its results independently of each other. Each has a ring
// of stages in threadgroup memory, and a stage holds what it multiplies of one column. Lane 0 has copies fill
// the ring before the row is there, while the launch before still runs, and fills a stage again once it was
// read. The row is in the lanes' registers. The simdgroups of a set share the depth of its columns.
#pragma once

#include "matmul_rows.h"

// Vectors of 16 bytes that a lane has of a row: a multiple of so many lines is a stage.
constant int kStreamVectors [[function_constant(kFcStreamVectors)]];
constant int kStages [[function_constant(kFcStreamStages)]];  // of a ring
constant int kColumnsOfResult = kGated ? 2 : 1;
// Parts after those of the first stages that the shared cache is given.
constant int kAhead [[function_constant(kFcStreamAhead)]];
constant constexpr int kVectorBytes = 16, kLineBytes = int(kSimd) * kVectorBytes;

// Neighbours, of which `part` gets as many as the others, or one more.
struct Share {
  int first, count;

  Share part(int part, int parts) const {
    const int each = count / parts, more = count % parts;
    return {first + part * each + min(part, more), each + (part < more ? 1 : 0)};
  }
};

// How the simdgroups of a threadgroup share its work; those that are left over have none.
struct Crew {
  int sharers, sets;  // simdgroups that share the depth of a column; sets of those
  int set, sharer;    // where this one is
  int begin, bytes;   // of the depth: its first element, and what it has of it
  Share group, mine;  // results

  Crew(constant MatmulArgs& args, Spot at, int groups, int element) {
    sharers = args.simdgroups_per_column;
    sets = kStreamSimdgroups / sharers;
    set = int(at.simdgroup) / sharers;
    sharer = int(at.simdgroup) % sharers;
    begin = sharer * args.split_depth;
    bytes = clamp(args.product.depth - begin, 0, args.split_depth) * element;
    const Share all = {0, args.product.columns};
    group = all.part(int(at.group.x), groups);
    mine = {group.first, 0};
    if (set < sets) mine = group.part(set, sets);
  }
  int most() const { return (group.count + sets - 1) / sets; }  // results of any set
};

// What a lane has of a row: zeros where its part ends.
template <typename T>
struct RowPart {
  uint4 at[kMostStreamVectors];

  static bool has(int v, int bytes, uint lane) { return v * kLineBytes + int(lane) * kVectorBytes < bytes; }

  void load(const device T* from, int bytes, uint lane) {
    NPU_UNROLL
    for (int v = 0; v < kMostStreamVectors; ++v) {
      at[v] = uint4(0);
      if (v < kStreamVectors && has(v, bytes, lane))
        at[v] = *(const device uint4*)((const device char*)from + v * kLineBytes + int(lane) * kVectorBytes);
    }
  }

  // The lane's part of the sum of products with a stage.
  float times(const threadgroup char* stage, uint lane) const {
    float4 sums = float4(0.0f);
    NPU_UNROLL
    for (int v = 0; v < kMostStreamVectors; ++v) {
      if (v >= kStreamVectors) continue;
      const uint4 raw = *(const threadgroup uint4*)(stage + v * kLineBytes + int(lane) * kVectorBytes);
      uint4 mine = at[v];
      npu::keep_packed(mine);
      const Wide<T> weights = wide_of(raw, T(0.0f)), values = wide_of(mine, T(0.0f));
      NPU_UNROLL
      for (int f = 0; f < Wide<T>::kFours; ++f) sums = fma(values.at[f], weights.at[f], sums);
    }
    return (sums.x + sums.y) + (sums.z + sums.w);
  }
};

// A simdgroup's columns, one after the other; gated, a gate follows its result.
template <typename T>
struct Ring {
  threadgroup char* memory;
  threadgroup ulong* barriers;  // of stages
  const device T* right;        // its part of the first column
  int64_t column, gate;         // steps
  int items, bytes;
  int item, stage;  // the next ones
  uint parity;      // of the stage's phase

  Ring(constant MatmulArgs& args, thread const Crew& crew, threadgroup char* all,
       threadgroup ulong* barriers_, const device T* first, Spot at) {
    memory = all + int(at.simdgroup) * kStages * stage_bytes();
    barriers = barriers_ + int(at.simdgroup) * kMostStreamStages;
    right = first + (crew.mine.first * args.right_column + crew.begin);
    column = args.right_column;
    gate = args.product.columns * args.right_column;
    items = crew.mine.count * kColumnsOfResult;
    bytes = crew.bytes;
    item = stage = 0;
    parity = 0;
  }

  static int stage_bytes() { return kStreamVectors * kLineBytes; }

  const device T* part_of(int which) const {
    return right + (kGated ? which / 2 * column + which % 2 * gate : which * column);
  }
  void fetch(int which, int to) const {
    npu::copy_row(memory + to * stage_bytes(), part_of(which), uint(bytes), barriers + to);
  }

  // Fills the ring. What a stage has beyond a column's part is zero, and stays so.
  void begin(uint lane) const {
    if (items == 0) return;
    if (lane == 0) {
      for (int s = 0; s < kStages; ++s) npu::prepare_copies(barriers + s);
      npu::let_copies_begin();
      for (int s = 0; s < min(kStages, items); ++s) fetch(s, s);
      for (int i = kStages; i < min(kStages + kAhead, items); ++i) npu::prefetch_row(part_of(i), uint(bytes));
    }
    for (int s = 0; s < kStages; ++s) {
      for (int i = bytes + int(lane) * kVectorBytes; i < stage_bytes(); i += kLineBytes)
        *(threadgroup uint4*)(memory + s * stage_bytes() + i) = uint4(0);
    }
    simdgroup_barrier(mem_flags::mem_threadgroup);
  }

  // The sum of the next column's part. A stage is filled again after the barrier, which all lanes reach with
  // what they read of it, so that a copy overtakes no reader; and none is a phase behind, which it would take
  // for the one after it.
  float next(thread const RowPart<T>& row, uint lane) {
    npu::wait_for_row(barriers + stage, parity);
    const float part = row.times(memory + stage * stage_bytes(), lane);
    simdgroup_barrier(mem_flags::mem_threadgroup);
    if (lane == 0 && item + kStages < items) fetch(item + kStages, stage);
    ++item;
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
    return simd_sum(part);
  }
};

// Brings what a result will be finished with nearer, while its sums are made. What a generated epilogue reads
// is not known here.
inline void touch_element(const device char* from, int type, int64_t at) {
  npu::touch(from + at * (type == NPU_FLOAT32 ? 4 : 2));
}
inline void touch_operands(constant MatmulArgs& args, Ends ends, RowOffsets row, int column) {
  if (kBias > 0) touch_element(ends.bias, kBias - 1, offset_of(args.product, row, 1, column));
#ifndef NPU_EPILOGUE
  if (kExtras > 0) touch_element(ends.extra[0], kExtraType, offset_of(args.product, row, 2, column));
#endif
}

// Memory of a threadgroup beside its rings.
struct StreamRoom {
  threadgroup float* sums;  // of results and gates, by simdgroup
  threadgroup char* rings;
  threadgroup ulong* barriers;
};
#define NPU_STREAM_ROOM                                                     \
  threadgroup float stream_sums[kStreamSimdgroups * 2 * int(kSimd)];        \
  threadgroup ulong stream_barriers[kStreamSimdgroups * kMostStreamStages]; \
  const StreamRoom room = {stream_sums, rings, stream_barriers};

// Makes the threadgroup's results; ready(crew) waits for the row and gives a lane's part of it.
template <typename T, typename Ready>
inline void stream(constant MatmulArgs& args, const thread Ready& ready, const device T* right, Ends ends,
                   RowOffsets offsets, StreamRoom room, Spot at, int groups) {
  const Crew crew(args, at, groups, int(sizeof(T)));
  Ring<T> ring(args, crew, room.rings, room.barriers, right + offsets.of[NPU_RIGHT], at);
  ring.begin(at.lane);
  const RowPart<T> row = ready(crew);
  threadgroup float* mine = room.sums + int(at.simdgroup) * 2 * int(kSimd) + int(at.lane);
  for (int first = 0; first < crew.most(); first += int(kSimd)) {
    const int count = min(crew.mine.count - first, int(kSimd));
    const int column = crew.mine.first + first + int(at.lane);
    const bool finishes = crew.sharer == 0 && int(at.lane) < count;
    if (finishes) touch_operands(args, ends, offsets, column);
    float sum = 0.0f, other = 0.0f;  // of the lane's result
    for (int k = 0; k < count * kColumnsOfResult; ++k) {
      const float one = ring.next(row, at.lane);
      if (int(at.lane) != k / kColumnsOfResult) continue;
      if (kGated && k % 2 == 1) {
        other = one;
      } else {
        sum = one;
      }
    }
    if (crew.sharers > 1) {
      mine[0] = sum;
      if (kGated) mine[kSimd] = other;
      threadgroup_barrier(mem_flags::mem_threadgroup);
      for (int s = 1; s < crew.sharers && crew.sharer == 0; ++s) {
        sum += mine[s * 2 * int(kSimd)];
        if (kGated) other += mine[(s * 2 + 1) * int(kSimd)];
      }
    }
    if (finishes) finish_one(sum, other, args.product, ends, offsets, column);
    if (crew.sharers > 1) threadgroup_barrier(mem_flags::mem_threadgroup);
  }
}
