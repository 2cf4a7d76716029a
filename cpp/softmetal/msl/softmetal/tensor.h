// Not of Metal: what kernels for NVIDIA's tensor cores (cpp/cuda/kernels) call, so that they can be tested
// here. Copies are done at once; whether they were waited for is not checked.
#pragma once

#include "simd.h"

namespace metal::npu {

struct Matrices {
  uint of[4];
};
struct LaneSums {
  float of[4];
};
struct MatrixPairs {
  uint high[4], low[4];
};

}  // namespace metal::npu

namespace softmetal {

// Lays a lane's share down where `lay` says, waits for the others, and combines them once.
template <class Lay, class Combine>
inline Slot& together(Site site, Lay lay, Combine combine) {
  Thread* me = runtime->current();
  Slot& slot = me->simdgroup->slot();
  lay(slot, me->lane);
  runtime->wait(me, site);
  if (!slot.combined) {
    slot.combined = true;
    if (slot.active != 0xffffffffu) runtime->fail("an operation of tensor cores needs all 32 lanes", site);
    combine(slot);
  }
  return slot;
}

struct TensorOperands {
  float a[16][16];
};
struct TensorResult {
  float sums[16][8], b[16][8];
};

inline float half_of(unsigned word, int which, metal::half) {
  return static_cast<float>(as_type<metal::half>(static_cast<unsigned short>(word >> (16 * which))));
}
inline float half_of(unsigned word, int which, metal::bfloat) {
  return static_cast<float>(as_type<metal::bfloat>(static_cast<unsigned short>(word >> (16 * which))));
}

template <int Depth>
inline void multiply_tensors(Slot& slot) {
  auto& a = reinterpret_cast<TensorOperands*>(slot.values)->a;
  auto& result = *reinterpret_cast<TensorResult*>(slot.result);
  for (int row = 0; row < 16; ++row) {
    for (int column = 0; column < 8; ++column) {
      float sum = 0;
      for (int k = 0; k < Depth; ++k) sum = __builtin_fmaf(a[row][k], result.b[k][column], sum);
      result.sums[row][column] = sum;
    }
  }
}

inline void add_sums(metal::npu::LaneSums& sums, Slot& slot) {
  auto& all = reinterpret_cast<TensorResult*>(slot.result)->sums;
  unsigned lane = runtime->current()->lane;
  for (int i = 0; i < 4; ++i) sums.of[i] += all[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
}

inline Slot& rows_of_matrices(const void* row, Site site) {
  return together(
      site, [&](Slot& slot, unsigned lane) { reinterpret_cast<const void**>(slot.values)[lane] = row; },
      [](Slot&) {});
}

}  // namespace softmetal

namespace metal::npu {

inline void copy_async(void* to, const void* from, int bytes) {
  if (reinterpret_cast<ulong>(to) % 16 != 0 || (bytes > 0 && reinterpret_cast<ulong>(from) % 16 != 0))
    softmetal::runtime->fail("a copy of 16 bytes is at an address that is no multiple of 16",
                             softmetal::here());
  for (int i = 0; i < 16; ++i)
    static_cast<char*>(to)[i] = i < bytes ? static_cast<const char*>(from)[i] : static_cast<char>(0);
}
inline void copy_line_async(void* to, const void* from, int bytes) { copy_async(to, from, bytes); }
inline void end_copies() {}
template <int Open>
inline void wait_for_copies() {}
inline void wait_for_inputs() {}

// Barriers count the copies that they were given, which are done at once: whoever waits longer than that
// would wait for ever.
constexpr ulong prepared_barrier = 1ul << 63;
inline void prepare_copies(ulong* barrier) { *barrier = prepared_barrier; }
inline void let_copies_begin() {}
inline void keep_packed(uint4&) {}
inline void touch(const void*) {}
inline void copy_row(void* to, const void* from, uint bytes, ulong* barrier) {
  using namespace softmetal;
  if ((reinterpret_cast<ulong>(to) | reinterpret_cast<ulong>(from) | bytes) % 16 != 0)
    runtime->fail("a copy of a row has an address or a size that is no multiple of 16", here());
  if ((*barrier & prepared_barrier) == 0) runtime->fail("a copy's barrier was not prepared", here());
  __builtin_memcpy(to, from, bytes);
  ++*barrier;
}
inline void prefetch_row(const void* from, uint bytes) {
  if ((reinterpret_cast<ulong>(from) | bytes) % 16 != 0)
    softmetal::runtime->fail("a row is prefetched at an address or of a size that is no multiple of 16",
                             softmetal::here());
}
inline void wait_for_row(ulong* barrier, uint parity) {
  if ((*barrier & prepared_barrier) == 0 || (*barrier & 1) == parity)
    softmetal::runtime->fail("a barrier is waited for whose copy nobody began", softmetal::here());
}

inline void load_matrices(Matrices& m, const void* row, softmetal::Site site = softmetal::here()) {
  softmetal::Slot& slot = softmetal::rows_of_matrices(row, site);
  auto* rows = reinterpret_cast<const uint* const*>(slot.values);
  unsigned lane = softmetal::runtime->current()->lane;
  for (unsigned i = 0; i < 4; ++i) m.of[i] = rows[i * 8 + lane / 4][lane % 4];
}
inline void load_turned_matrices(Matrices& m, const void* row, softmetal::Site site = softmetal::here()) {
  softmetal::Slot& slot = softmetal::rows_of_matrices(row, site);
  auto* rows = reinterpret_cast<const ushort* const*>(slot.values);
  unsigned lane = softmetal::runtime->current()->lane;
  for (unsigned i = 0; i < 4; ++i) {
    unsigned first = i * 8 + lane % 4 * 2;
    m.of[i] = uint(rows[first][lane / 4]) | uint(rows[first + 1][lane / 4]) << 16;
  }
}

template <class T>
inline void multiply(LaneSums& sums, const Matrices& left, uint low, uint high, T type,
                     softmetal::Site site = softmetal::here()) {
  using namespace softmetal;
  const uint right[2] = {low, high};
  Slot& slot = together(
      site,
      [&](Slot& slot, unsigned lane) {
        auto& a = reinterpret_cast<TensorOperands*>(slot.values)->a;
        auto& b = reinterpret_cast<TensorResult*>(slot.result)->b;
        for (unsigned i = 0; i < 4; ++i) {
          for (unsigned e = 0; e < 2; ++e)
            a[lane / 4 + i % 2 * 8][lane % 4 * 2 + i / 2 * 8 + e] = half_of(left.of[i], e, type);
        }
        for (unsigned i = 0; i < 2; ++i) {
          for (unsigned e = 0; e < 2; ++e) b[lane % 4 * 2 + i * 8 + e][lane / 4] = half_of(right[i], e, type);
        }
      },
      multiply_tensors<16>);
  add_sums(sums, slot);
}

template <class T>
inline uint two_of(float first, float second, T) {
  return uint(as_type<ushort>(T(first))) | uint(as_type<ushort>(T(second))) << 16;
}
inline float quick_exp2(float x) { return __builtin_exp2f(x); }

inline uint rounded_to_tf32(float x) {
  uint bits = as_type<uint>(x);
  return (bits & 0x7f800000u) == 0x7f800000u ? bits : (bits + 0x1000u) & 0xffffe000u;
}
inline MatrixPairs pairs_of(const Matrices& m) {
  constexpr uint exponent = 0x7f800000u;
  MatrixPairs pairs;
  for (int k = 0; k < 4; ++k) {
    const bool finite = (m.of[k] & exponent) != exponent;
    const uint rounded = rounded_to_tf32(as_type<float>(m.of[k]));
    pairs.high[k] = finite && (rounded & exponent) == exponent ? m.of[k] & 0xffffe000u : rounded;
    const float rest = as_type<float>(m.of[k]) - as_type<float>(pairs.high[k]);
    pairs.low[k] = finite ? rounded_to_tf32(rest) : 0u;
  }
  return pairs;
}
inline void multiply_tf32(LaneSums& sums, const uint (&left)[4], uint low, uint high,
                          softmetal::Site site = softmetal::here()) {
  using namespace softmetal;
  const uint right[2] = {low, high};
  Slot& slot = together(
      site,
      [&](Slot& slot, unsigned lane) {
        auto& a = reinterpret_cast<TensorOperands*>(slot.values)->a;
        auto& b = reinterpret_cast<TensorResult*>(slot.result)->b;
        for (unsigned i = 0; i < 4; ++i)
          a[lane / 4 + i % 2 * 8][lane % 4 + i / 2 * 4] = as_type<float>(left[i]);
        for (unsigned i = 0; i < 2; ++i) b[lane % 4 + i * 4][lane / 4] = as_type<float>(right[i]);
      },
      multiply_tensors<8>);
  add_sums(sums, slot);
}

// Products of groups of simdgroups: here each lane makes its sums alone.
inline void show_copies() {}
inline void begin_products() {}
inline void end_products() {}
template <int Open>
inline void wait_for_products() {}
template <int Tiles, class T>
inline void multiply_group(LaneSums (&sums)[Tiles], const void* left, const void* right, int step, T,
                           softmetal::Site site = softmetal::here()) {
  if (reinterpret_cast<ulong>(left) % 1024 != 0 || reinterpret_cast<ulong>(right) % 1024 != 0)
    softmetal::runtime->fail("a factor of a group of simdgroups is at no multiple of 1024", site);
  const auto of = [&](const void* rows, unsigned row, unsigned k) {
    const unsigned chunk = (unsigned(step) * 2 + k / 8) ^ (row & 7);
    return static_cast<float>(static_cast<const T*>(rows)[row * 64 + chunk * 8 + k % 8]);
  };
  const softmetal::Thread* me = softmetal::runtime->current();
  const unsigned simdgroup = me->index / 32 % 4;
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned row = simdgroup * 16 + me->lane / 4 + i / 2 * 8;
    for (unsigned tile = 0; tile < unsigned(Tiles); ++tile) {
      const unsigned column = tile * 8 + me->lane % 4 * 2 + i % 2;
      float sum = 0;
      for (unsigned k = 0; k < 16; ++k) sum = __builtin_fmaf(of(left, row, k), of(right, column, k), sum);
      sums[tile].of[i] += sum;
    }
  }
}

}  // namespace metal::npu
