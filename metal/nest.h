// Walking strided operands together, and moving four neighbours at a time.
#pragma once

#include "common.h"

// Offsets of the operands of a nest, in elements.
template <int N>
struct Offsets {
  int64_t of[N];
};

// At position `index` of the first `dims` dimensions; of the first `count` operands.
template <int N>
inline Offsets<N> walk_dims(constant NestOf<N>& nest, int dims, uint index, int count = N) {
  Offsets<N> at;
  for (int k = 0; k < count; ++k) at.of[k] = 0;
  for (int d = dims - 1; d >= 0; --d) {
    uint i = index;
    if (d > 0) {  // the outermost one takes what is left
      const uint extent = uint(nest.extent[d]);
      index /= extent;
      i -= index * extent;
    }
    for (int k = 0; k < count; ++k) at.of[k] += int64_t(i) * nest.step[k][d];
  }
  return at;
}

template <int N>
inline Offsets<N> walk(constant NestOf<N>& nest, uint index, int count = N) {
  return walk_dims(nest, nest.rank, index, count);
}

template <int N>
inline Offsets<N> walk_row(constant NestOf<N>& nest, uint row, int count = N) {
  return walk_dims(nest, nest.rank - 1, row, count);
}

template <int N>
inline uint inner_of(constant NestOf<N>& nest) {
  return uint(nest.extent[nest.rank - 1]);
}

template <int N>
inline int64_t step_of(constant NestOf<N>& nest, int operand) {
  return nest.step[operand][nest.rank - 1];
}

// Visits elements first, first + by, first + 2 * by, ... of a nest; only a change of row costs a walk.
template <int N>
struct Stepper {
  Offsets<N> base;
  uint row, column, rows_by, columns_by;

  Stepper(constant NestOf<N>& nest, uint first, uint by) {
    const uint inner = inner_of(nest);
    row = first / inner;
    column = first - row * inner;
    rows_by = by / inner;
    columns_by = by - rows_by * inner;
    base = walk_row(nest, row);
  }

  int64_t offset(constant NestOf<N>& nest, int operand) const {
    return base.of[operand] + int64_t(column) * step_of(nest, operand);
  }

  void advance(constant NestOf<N>& nest) {
    const uint inner = inner_of(nest);
    const uint before = row;
    row += rows_by;
    column += columns_by;
    if (column >= inner) {
      column -= inner;
      ++row;
    }
    if (row != before) base = walk_row(nest, row);
  }
};

// Four neighbours as floats. The packed types need no more alignment than an element has.
inline float4 load4(const device float* x) { return float4(*(const device packed_float4*)x); }
inline float4 load4(const device half* x) { return float4(half4(*(const device packed_half4*)x)); }
inline float4 load4(const device bfloat* x) {
  const ushort4 bits = ushort4(*(const device packed_ushort4*)x);
  return as_type<float4>(uint4(bits) << 16);
}

template <typename T>
inline long4 load4(const device T* x) {  // integers and bools
  return long4(long(x[0]), long(x[1]), long(x[2]), long(x[3]));
}

inline void store4(device float* y, float4 x) { *(device packed_float4*)y = packed_float4(x); }
inline void store4(device half* y, float4 x) { *(device packed_half4*)y = packed_half4(half4(x)); }
inline void store4(device bfloat* y, float4 x) {
  const ushort4 bits = ushort4(as_type<ushort>(bfloat(x.x)), as_type<ushort>(bfloat(x.y)),
                               as_type<ushort>(bfloat(x.z)), as_type<ushort>(bfloat(x.w)));
  *(device packed_ushort4*)y = packed_ushort4(bits);
}

// The same for code that is written for one element or for four: `like` says which.
template <typename T>
inline float load(const device T* x, float /*like*/) {
  return float(*x);
}
template <typename T>
inline float4 load(const device T* x, float4 /*like*/) {
  return load4(x);
}
template <typename T>
inline void store(device T* y, float value) {
  *y = T(value);
}
template <typename T>
inline void store(device T* y, float4 value) {
  store4(y, value);
}

// What elements that are only moved are moved as: by size, up to four at a time.
template <typename T>
struct Words {
  static constant constexpr uint kMany = 1;
  static void copy_many(device T* y, const device T* x) { *y = *x; }
};
#define NPU_WORDS(T)                                                 \
  template <>                                                        \
  struct Words<T> {                                                  \
    static constant constexpr uint kMany = kWordsAtOnce;             \
    static void copy_many(device T* y, const device T* x) {          \
      *(device packed_##T##4 *)y = *(const device packed_##T##4 *)x; \
    }                                                                \
  };
NPU_WORDS(uchar)
NPU_WORDS(ushort)
NPU_WORDS(uint)
#undef NPU_WORDS

#define NPU_INSTANTIATE_WORDS(kernel) \
  NPU_INSTANTIATE(kernel, uchar)      \
  NPU_INSTANTIATE(kernel, ushort)     \
  NPU_INSTANTIATE(kernel, uint)       \
  NPU_INSTANTIATE(kernel, ulong)

#define NPU_INSTANTIATE_ALL(kernel) \
  NPU_INSTANTIATE_FLOATS(kernel)    \
  NPU_INSTANTIATE(kernel, char)     \
  NPU_INSTANTIATE(kernel, short)    \
  NPU_INSTANTIATE(kernel, int)      \
  NPU_INSTANTIATE(kernel, long)     \
  NPU_INSTANTIATE(kernel, uchar)    \
  NPU_INSTANTIATE(kernel, bool)
