// Attention of many rows on NVIDIA's tensor cores: what metal/attention.metal does on simdgroup matrices, for
// 16-bit elements whose rows are chunks of 16 bytes.
//
// A threadgroup makes kTensorQueries rows that share a head of k and v, 16 for each simdgroup, whose queries,
// scores and results stay in registers. Blocks of k and v come two at a time; those that no row sees are left
// out.
#include "attention.h"
#include "tensor_tiles.h"

// 16 bytes of the mask, which is of bools, can be read at once.
constant bool kWideMask [[function_constant(kFcTensorAttentionWideMask)]];

constant constexpr int kBlock = 64;             // columns
constant constexpr int kSegment = 32 * kBlock;  // columns of which it is known at a time what is seen
constant constexpr int kWays = kTensorQueries / 16;

template <typename T, int kWidth_>
struct TensorHead {
  typedef T Element;
  static constant constexpr int kWidth = kWidth_, kRowBytes = kWidth * 2, kChunks = kWidth / 8;
  static constant constexpr int kThreads = kWays * int(kSimd);
  static constant constexpr int kSideBytes = kBlock * kRowBytes;  // of k or v
  static_assert(kTensorQueries <= kBlock, "queries are staged in the memory of keys");
};

// Of the blocks of a segment, a bit each: which somebody sees, and where the mask hides or changes something.
struct Seen {
  threadgroup atomic_uint* bits;

  void clear() const {
    atomic_store_explicit(bits, 0u, memory_order_relaxed);
    atomic_store_explicit(bits + 1, 0u, memory_order_relaxed);
  }
  uint some() const { return atomic_load_explicit(bits, memory_order_relaxed); }
  uint masked() const { return atomic_load_explicit(bits + 1, memory_order_relaxed); }
};

template <typename T>
inline void look(Seen seen, constant AttentionArgs& args, const device char* mask, int batch, int group,
                 int index, int last, int begin, int end, int thread_index, int threads) {
  constexpr int kEach = 16;  // columns
  const bool by_head = args.mask_step[1] != 0;
  const int first = by_head ? index : index / args.shared;
  const int rows = (by_head ? last : last / args.shared) - first + 1;
  const int across = (end - begin + kEach - 1) / kEach;
  for (int i = thread_index; i < rows * across; i += threads) {
    const int asked = first + i / across, column = begin + i % across * kEach;
    const QueryRow row(args, batch, group, by_head ? asked : asked * args.shared);
    bool some = false, all = true;
    if (kWideMask && column + kEach <= end) {
      const uint4 words = *(const device uint4*)(mask + row.mask + column);
      some = (words.x | words.y | words.z | words.w) != 0;
      constexpr uint kFour = 0x01010101u;
      all = words.x == kFour && words.y == kFour && words.z == kFour && words.w == kFour;
    } else {
      for (int t = column; t < min(column + kEach, end); ++t) {
        const float addend = addend_of<T>(args, mask, row.mask, row.row, t);
        some = some || addend != -INFINITY;
        all = all && addend == 0.0f;
      }
    }
    const uint bit = 1u << ((column - begin) / kBlock);
    if (some) atomic_fetch_or_explicit(seen.bits, bit, memory_order_relaxed);
    if (!all) atomic_fetch_or_explicit(seen.bits + 1, bit, memory_order_relaxed);
  }
}

// Starts the copies of some rows of q, k or v; what is not there is zero.
template <typename B>
inline void bring_rows(threadgroup char* to, const device typename B::Element* from, int64_t step, int rows,
                       int width, int thread_index) {
  constexpr int kAtOnce = B::kThreads / B::kChunks;  // rows
  static_assert(kAtOnce % 8 == 0, "a thread's rows have their chunks in one place");
  const int first = thread_index / B::kChunks, chunk = thread_index % B::kChunks;
  from += first * step + chunk * 8;
  to += place_of(first, chunk, B::kRowBytes);
  if (chunk * 8 >= width) rows = 0;
  NPU_UNROLL
  for (int i = 0; i < kBlock / kAtOnce; ++i) {
    npu::copy_async(to + i * kAtOnce * B::kRowBytes, from + i * (kAtOnce * step),
                    first + i * kAtOnce < rows ? 16 : 0);
  }
}

constant constexpr float kLog2E = 1.44269504f;

// The rows of a simdgroup; a lane has two of them, eight apart.
template <typename B>
struct TensorStrip {
  typedef typename B::Element T;
  npu::Matrices queries[B::kWidth / 16];
  npu::LaneSums sums[B::kWidth / 8], scores[kBlock / 8];
  float most[2], total[2];
  int64_t mask_at[2], out_at[2];
  int row[2];
  bool there[2];
  int lane, first_row;

  void take(constant AttentionArgs& args, int batch, int group, int first, int lane_index) {
    lane = lane_index;
    first_row = first / args.shared;
    NPU_UNROLL
    for (int h = 0; h < 2; ++h) {
      const int rows = args.rows * args.shared, index = first + lane / 4 + h * 8;
      const QueryRow mine(args, batch, group, min(index, rows - 1));
      there[h] = index < rows;
      mask_at[h] = mine.mask;
      out_at[h] = mine.out;
      row[h] = mine.row;
      most[h] = -INFINITY;
      total[h] = 0.0f;
    }
    NPU_UNROLL
    for (int i = 0; i < B::kWidth / 8; ++i) sums[i] = {{0.0f, 0.0f, 0.0f, 0.0f}};
  }

  void load_queries(const threadgroup char* staged, int first) {
    NPU_UNROLL
    for (int s = 0; s < B::kWidth / 16; ++s) {
      const int matrix = lane / 8, at = first + (matrix & 1) * 8 + lane % 8;
      npu::load_matrices(queries[s], staged + place_of(at, s * 2 + matrix / 2, B::kRowBytes));
    }
  }

  void score(const threadgroup char* keys) {
    NPU_UNROLL
    for (int j = 0; j < kBlock / 8; ++j) scores[j] = {{0.0f, 0.0f, 0.0f, 0.0f}};
    const int matrix = lane / 8;
    NPU_UNROLL
    for (int s = 0; s < B::kWidth / 16; ++s) {
      NPU_UNROLL
      for (int j = 0; j < kBlock / 16; ++j) {
        npu::Matrices columns;
        const int at = j * 16 + matrix / 2 * 8 + lane % 8;
        npu::load_matrices(columns, keys + place_of(at, s * 2 + (matrix & 1), B::kRowBytes));
        npu::multiply(scores[2 * j], queries[s], columns.of[0], columns.of[1], T(0.0f));
        npu::multiply(scores[2 * j + 1], queries[s], columns.of[2], columns.of[3], T(0.0f));
      }
    }
  }

  // Scales the scores, for powers of two: those of a block that all rows see whole, and others.
  void scale_whole(constant AttentionArgs& args) {
    const float scale = args.scale * kLog2E;
    NPU_UNROLL
    for (int j = 0; j < kBlock / 8; ++j) {
      NPU_UNROLL
      for (int k = 0; k < 4; ++k) scores[j].of[k] *= scale;
    }
  }
  void scale_masked(constant AttentionArgs& args, const device char* mask, int begin) {
    NPU_UNROLL
    for (int h = 0; h < 2; ++h) {
      NPU_UNROLL
      for (int j = 0; j < kBlock / 8; ++j) {
        NPU_UNROLL
        for (int e = 0; e < 2; ++e) {
          const int t = begin + j * 8 + lane % 4 * 2 + e;
          const float addend = there[h] ? addend_of<T>(args, mask, mask_at[h], row[h], t) : -INFINITY;
          const float scaled = (scores[j].of[h * 2 + e] * args.scale + addend) * kLog2E;
          scores[j].of[h * 2 + e] = addend == -INFINITY ? -INFINITY : scaled;
        }
      }
    }
  }

  // Turns scores into weights.
  void weigh() {
    NPU_UNROLL
    for (int h = 0; h < 2; ++h) {
      const float before = most[h];
      NPU_UNROLL
      for (int j = 0; j < kBlock / 8; ++j)
        most[h] = max(most[h], max(scores[j].of[h * 2], scores[j].of[h * 2 + 1]));
      most[h] = max(most[h], simd_shuffle_xor(most[h], ushort(1)));
      most[h] = max(most[h], simd_shuffle_xor(most[h], ushort(2)));
      // Where nothing was seen yet, all weights are powers of -inf, and the sums zero.
      const float peak = most[h] == -INFINITY ? 0.0f : most[h];
      const float kept = before == most[h] ? 1.0f : npu::quick_exp2(before - peak);
      total[h] *= kept;
      NPU_UNROLL
      for (int j = 0; j < kBlock / 8; ++j) {
        NPU_UNROLL
        for (int e = 0; e < 2; ++e) {
          const float weight = npu::quick_exp2(scores[j].of[h * 2 + e] - peak);
          scores[j].of[h * 2 + e] = weight;
          total[h] += weight;
        }
      }
      NPU_UNROLL
      for (int i = 0; i < B::kWidth / 8; ++i) {
        sums[i].of[h * 2] *= kept;
        sums[i].of[h * 2 + 1] *= kept;
      }
    }
  }

  void add_values(const threadgroup char* values) {
    const int matrix = lane / 8;
    NPU_UNROLL
    for (int s = 0; s < kBlock / 16; ++s) {
      const npu::LaneSums left = scores[2 * s], right = scores[2 * s + 1];
      const T zero = T(0.0f);
      const npu::Matrices weights = {
          {npu::two_of(left.of[0], left.of[1], zero), npu::two_of(left.of[2], left.of[3], zero),
           npu::two_of(right.of[0], right.of[1], zero), npu::two_of(right.of[2], right.of[3], zero)}};
      const int at = s * 16 + (matrix & 1) * 8 + lane % 8;
      NPU_UNROLL
      for (int i = 0; i < B::kWidth / 16; ++i) {
        npu::Matrices columns;
        npu::load_turned_matrices(columns, values + place_of(at, i * 2 + matrix / 2, B::kRowBytes));
        npu::multiply(sums[2 * i], weights, columns.of[0], columns.of[1], T(0.0f));
        npu::multiply(sums[2 * i + 1], weights, columns.of[2], columns.of[3], T(0.0f));
      }
    }
  }

  void finish(constant AttentionArgs& args, device T* out) {
    NPU_UNROLL
    for (int h = 0; h < 2; ++h) {
      total[h] += simd_shuffle_xor(total[h], ushort(1));
      total[h] += simd_shuffle_xor(total[h], ushort(2));
      if (!there[h]) continue;
      NPU_UNROLL
      for (int i = 0; i < B::kWidth / 8; ++i) {
        NPU_UNROLL
        for (int e = 0; e < 2; ++e) {
          const int column = i * 8 + lane % 4 * 2 + e;
          if (column < args.value_width)
            out[out_at[h] + column * args.out_step[3]] = T(divided(sums[i].of[h * 2 + e], total[h]));
        }
      }
    }
  }
};

// The lowest bit that is set from `first` on, or 32.
inline int next_of(uint bits, int first) {
  const uint rest = first < 32 ? bits >> first << first : 0;
  return rest == 0 ? 32 : ctz(rest);
}

template <typename B>
struct TensorBlocksOf {
  typedef typename B::Element T;
  constant AttentionArgs& args;
  const device T* k;
  const device T* v;
  threadgroup char* memory;
  int thread_index;

  void bring(int stage, int first) const {
    threadgroup char* to = memory + stage * 2 * B::kSideBytes;
    bring_rows<B>(to, k + first * args.k_step[2], args.k_step[2], args.length - first, args.width,
                  thread_index);
    bring_rows<B>(to + B::kSideBytes, v + first * args.v_step[2], args.v_step[2], args.length - first,
                  args.value_width, thread_index);
  }
};

// The blocks of a segment that somebody sees: the next one is on its way while one is counted.
template <typename B>
inline void count_blocks(thread TensorStrip<B>& strip, thread const TensorBlocksOf<B>& blocks, uint seen,
                         uint masked, int begin, constant AttentionArgs& args, const device char* mask) {
  const int whole =
      kCausal ? min(args.length, strip.first_row + 1) : args.length;  // columns that all rows see
  int stage = 0, now = next_of(seen, 0);
  if (now < 32) blocks.bring(stage, begin + now * kBlock);
  npu::end_copies();
  while (now < 32) {
    const int next = next_of(seen, now + 1);
    if (next < 32) blocks.bring(1 - stage, begin + next * kBlock);
    npu::end_copies();
    npu::wait_for_copies<1>();
    threadgroup_barrier(mem_flags::mem_threadgroup);
    const threadgroup char* keys = blocks.memory + stage * 2 * B::kSideBytes;
    strip.score(keys);
    const int first = begin + now * kBlock;
    if (first + kBlock <= whole && (masked >> now & 1) == 0) {
      strip.scale_whole(args);
    } else {
      strip.scale_masked(args, mask, first);
    }
    strip.weigh();
    strip.add_values(keys + B::kSideBytes);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    now = next;
    stage = 1 - stage;
  }
}

template <typename B>
[[kernel]] void attention_tensor(constant AttentionArgs& args [[buffer(kBufferArgs)]],
                                 const device typename B::Element* q [[buffer(kBufferAttentionQ)]],
                                 const device typename B::Element* k [[buffer(kBufferAttentionK)]],
                                 const device typename B::Element* v [[buffer(kBufferAttentionV)]],
                                 const device char* mask [[buffer(kBufferAttentionMask)]],
                                 device typename B::Element* out [[buffer(kBufferAttentionOut)]],
                                 threadgroup char* memory [[threadgroup(0)]],
                                 uint3 at [[threadgroup_position_in_grid]],
                                 uint thread_at [[thread_index_in_threadgroup]],
                                 uint simdgroup [[simdgroup_index_in_threadgroup]],
                                 uint lane [[thread_index_in_simdgroup]]) {
  typedef typename B::Element T;
  threadgroup atomic_uint bits[2];
  const Seen seen_of = {bits};
  const int rows = args.rows * args.shared, groups = (rows + kTensorQueries - 1) / kTensorQueries;
  if (int(at.x) >= groups || at.z >= uint(args.batch * args.groups)) return;
  const int index = (groups - 1 - int(at.x)) * kTensorQueries;  // the last rows see most: they come first
  const int batch = int(at.z) / args.groups, group = int(at.z) - batch * args.groups;
  const int thread_index = int(thread_at), last = min(index + kTensorQueries, rows) - 1;
  k += batch * args.k_step[0] + group * args.k_step[1];
  v += batch * args.v_step[0] + group * args.v_step[1];
  TensorStrip<B> strip;
  strip.take(args, batch, group, index + 16 * int(simdgroup), int(lane));
  for (int i = thread_index; i < kTensorQueries * B::kChunks; i += B::kThreads) {
    const int row = i / B::kChunks, chunk = i % B::kChunks;
    const bool there = index + row <= last && chunk * 8 < args.width;
    const device T* from = q + QueryRow(args, batch, group, min(index + row, last)).q + chunk * 8;
    npu::copy_async(memory + place_of(row, chunk, B::kRowBytes), there ? from : q, there ? 16 : 0);
  }
  npu::end_copies();
  npu::wait_for_copies<0>();
  threadgroup_barrier(mem_flags::mem_threadgroup);
  strip.load_queries(memory, 16 * int(simdgroup));
  const int length = kCausal ? min(args.length, last / args.shared + 1) : args.length;
  const TensorBlocksOf<B> blocks = {args, k, v, memory, thread_index};
  for (int begin = 0; begin < length; begin += kSegment) {
    const int end = min(begin + kSegment, length), many = (end - begin + kBlock - 1) / kBlock;
    uint seen = many == 32 ? 0xffffffffu : (1u << many) - 1u, masked = 0;
    threadgroup_barrier(
        mem_flags::mem_threadgroup);  // all have their queries, and are done with the segment before
    if (MaskKind(kMask) != MaskKind::kNone) {
      if (thread_index == 0) seen_of.clear();
      threadgroup_barrier(mem_flags::mem_threadgroup);
      look<T>(seen_of, args, mask, batch, group, index, last, begin, end, thread_index, B::kThreads);
      threadgroup_barrier(mem_flags::mem_threadgroup);
      seen &= seen_of.some();
      masked = seen_of.masked();
    }
    count_blocks(strip, blocks, seen, masked, begin, args, mask);
  }
  strip.finish(args, out);
}

#define NPU_ATTENTION_TENSOR(T, width)                                 \
  template [[host_name("attention_tensor_" #width "_" #T)]] [[kernel]] \
  decltype(attention_tensor<TensorHead<T, width>>) attention_tensor<TensorHead<T, width>>;
NPU_ATTENTION_TENSOR(half, 64)
NPU_ATTENTION_TENSOR(half, 128)
NPU_ATTENTION_TENSOR(bfloat, 64)
NPU_ATTENTION_TENSOR(bfloat, 128)
