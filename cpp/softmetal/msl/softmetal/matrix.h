// simdgroup_matrix: an 8x8 matrix held by the 32 lanes of a simdgroup, two neighbours of a row each. Lane l
// holds row (l & 16) / 4 + (l / 2) % 4 and columns (l & 8) / 2 + (l % 2) * 2 and the next, as on Apple's
// GPUs.
#pragma once

#include "simd.h"

namespace metal {

template <class T, int Columns, int Rows>
struct simdgroup_matrix {
  static_assert(Columns == 8 && Rows == 8, "Metal has simdgroup matrices of 8x8");
  static_assert(is_floating_point_v<T>, "Metal has simdgroup matrices of float, half and bfloat");
  using storage_type = vec<T, 2>;

  simdgroup_matrix() = default;
  explicit simdgroup_matrix(T diagonal);
  storage_type& thread_elements() { return elements; }
  const storage_type& thread_elements() const { return elements; }

  storage_type elements;
};
using simdgroup_float8x8 = simdgroup_matrix<float, 8, 8>;
using simdgroup_half8x8 = simdgroup_matrix<half, 8, 8>;
using simdgroup_bfloat8x8 = simdgroup_matrix<bfloat, 8, 8>;

}  // namespace metal

namespace softmetal {

constexpr unsigned matrix_row(unsigned lane) { return (lane & 16) / 4 + (lane / 2) % 4; }
constexpr unsigned matrix_column(unsigned lane) { return (lane & 8) / 2 + (lane % 2) * 2; }

struct MatrixOperands {
  float a[8][8], b[8][8], c[8][8];
};
using MatrixRow = float __attribute__((ext_vector_type(8), aligned(4)));

inline void multiply(MatrixOperands& m, float (*result)[8]) {
  for (int i = 0; i < 8; ++i) {
    MatrixRow sum = *reinterpret_cast<MatrixRow*>(m.c[i]);
    for (int k = 0; k < 8; ++k) {
      MatrixRow factor = m.a[i][k];
      sum = __builtin_elementwise_fma(factor, *reinterpret_cast<MatrixRow*>(m.b[k]), sum);
    }
    *reinterpret_cast<MatrixRow*>(result[i]) = sum;
  }
}

template <class T>
inline void lay_down(float* at, const metal::vec<T, 2>& elements) {
  at[0] = static_cast<float>(elements.get(0));
  at[1] = static_cast<float>(elements.get(1));
}

}  // namespace softmetal

namespace metal {

template <class T, int C, int R>
inline simdgroup_matrix<T, C, R>::simdgroup_matrix(T diagonal) {
  unsigned lane = softmetal::runtime->current()->lane;
  unsigned row = softmetal::matrix_row(lane), column = softmetal::matrix_column(lane);
  elements = storage_type(row == column ? diagonal : T(0), row == column + 1 ? diagonal : T(0));
}

template <class T, int C, int R>
inline simdgroup_matrix<T, C, R> make_filled_simdgroup_matrix(T value) {
  simdgroup_matrix<T, C, R> result;
  result.elements = vec<T, 2>(value, value);
  return result;
}
template <class T, int C, int R>
inline simdgroup_matrix<T, C, R> make_diagonal_simdgroup_matrix(T value) {
  return simdgroup_matrix<T, C, R>(value);
}

template <class T>
inline void simdgroup_load(simdgroup_matrix<T, 8, 8>& d, const T* from, ulong elements_per_row = 8,
                           ulong2 origin = ulong2(0), bool transposed = false) {
  unsigned lane = softmetal::runtime->current()->lane;
  ulong row = softmetal::matrix_row(lane), column = softmetal::matrix_column(lane);
  ulong step = transposed ? elements_per_row : 1;
  ulong start = transposed ? column * elements_per_row + row : row * elements_per_row + column;
  const T* at = from + origin.y * elements_per_row + origin.x + start;
  d.elements.put(0, at[0]);
  d.elements.put(1, at[step]);
}

template <class T>
inline void simdgroup_store(simdgroup_matrix<T, 8, 8> a, T* to, ulong elements_per_row = 8,
                            ulong2 origin = ulong2(0), bool transposed = false) {
  unsigned lane = softmetal::runtime->current()->lane;
  ulong row = softmetal::matrix_row(lane), column = softmetal::matrix_column(lane);
  ulong step = transposed ? elements_per_row : 1;
  ulong start = transposed ? column * elements_per_row + row : row * elements_per_row + column;
  T* at = to + origin.y * elements_per_row + origin.x + start;
  at[0] = a.elements.get(0);
  at[step] = a.elements.get(1);
}

// d = a * b + c, in float whatever the operands are; all 32 lanes must be there.
template <class D, class A, class B, class C>
inline void simdgroup_multiply_accumulate(simdgroup_matrix<D, 8, 8>& d, simdgroup_matrix<A, 8, 8> a,
                                          simdgroup_matrix<B, 8, 8> b, simdgroup_matrix<C, 8, 8> c,
                                          softmetal::Site site = softmetal::here()) {
  using namespace softmetal;
  Thread* me = runtime->current();
  Slot& slot = me->simdgroup->slot();
  auto& operands = *reinterpret_cast<MatrixOperands*>(slot.values);
  auto* result = reinterpret_cast<float (*)[8]>(slot.result);
  unsigned row = matrix_row(me->lane), column = matrix_column(me->lane);
  lay_down(&operands.a[row][column], a.elements);
  lay_down(&operands.b[row][column], b.elements);
  lay_down(&operands.c[row][column], c.elements);
  runtime->wait(me, site);
  if (!slot.combined) {
    slot.combined = true;
    if (slot.active != kAllLanes)
      runtime->fail("a simdgroup_matrix operation needs all 32 lanes of its simdgroup", site);
    multiply(operands, result);
  }
  d.elements = vec<D, 2>(static_cast<D>(result[row][column]), static_cast<D>(result[row][column + 1]));
}

template <class D, class A, class B>
inline void simdgroup_multiply(simdgroup_matrix<D, 8, 8>& d, simdgroup_matrix<A, 8, 8> a,
                               simdgroup_matrix<B, 8, 8> b, softmetal::Site site = softmetal::here()) {
  simdgroup_multiply_accumulate(d, a, b, make_filled_simdgroup_matrix<float, 8, 8>(0.0f), site);
}
template <class T>
inline simdgroup_matrix<T, 8, 8> operator*(simdgroup_matrix<T, 8, 8> a, simdgroup_matrix<T, 8, 8> b) {
  simdgroup_matrix<T, 8, 8> d;
  simdgroup_multiply(d, a, b);
  return d;
}

}  // namespace metal
