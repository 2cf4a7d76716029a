// simdgroup_matrix 8x8: lane l has row l / 4 and columns l % 4 * 2 and the next, as the fragments of mma.sync
// lie. Products of half and bfloat are on tensor cores, summed in float; those of float are exact
// multiply-adds on the ordinary units, since TF32 would round the factors.
#pragma once

#include "simd.h"

namespace metal {

// Of 16-bit elements: as the right factor mma.sync wants the transpose, so both are kept, a lane's pair in
// each word.
template <class T, int C, int R>
struct simdgroup_matrix {
  static_assert(C == 8 && R == 8, "matrices are 8x8");
  uint rows, turned;
};
template <>
struct simdgroup_matrix<float, 8, 8> {
  vec<float, 2> elements;
  NPU_MSL vec<float, 2>& thread_elements() { return elements; }
};
typedef simdgroup_matrix<float, 8, 8> simdgroup_float8x8;
typedef simdgroup_matrix<half, 8, 8> simdgroup_half8x8;
typedef simdgroup_matrix<bfloat, 8, 8> simdgroup_bfloat8x8;

NPU_MSL uint transposed(uint pair) {
  uint r;
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(r) : "r"(pair));
  return r;
}

template <class T, int C, int R>
NPU_MSL simdgroup_matrix<T, C, R> make_filled_simdgroup_matrix(T v) {
  simdgroup_matrix<T, C, R> m;
  if constexpr (sizeof(T) == 4) {
    m.elements = vec<float, 2>(v, v);
  } else {
    m.rows = m.turned = uint(v.bits) * 0x10001u;
  }
  return m;
}

NPU_MSL void simdgroup_load(simdgroup_float8x8& m, const float* from, ulong stride, ulong2 = ulong2(0),
                            bool turned = false) {
  const uint lane = lane_of_thread(), r = lane >> 2, c = (lane & 3) * 2;
  m.elements.x = turned ? from[c * stride + r] : from[r * stride + c];
  m.elements.y = turned ? from[(c + 1) * stride + r] : from[r * stride + c + 1];
}
// Pairs are loaded as one: `from` is a multiple of four bytes and `stride` is even.
template <class T>
NPU_MSL void simdgroup_load(simdgroup_matrix<T, 8, 8>& m, const T* from, ulong stride, ulong2 = ulong2(0),
                            bool turned = false) {
  const uint lane = lane_of_thread(), r = lane >> 2, c = (lane & 3) * 2;
  const uint pair = *reinterpret_cast<const uint*>(from + r * stride + c);
  m.rows = turned ? transposed(pair) : pair;
  m.turned = turned ? pair : transposed(pair);
}
NPU_MSL void simdgroup_store(simdgroup_float8x8 m, float* to, ulong stride) {
  const uint lane = lane_of_thread(), r = lane >> 2, c = (lane & 3) * 2;
  *reinterpret_cast<vec<float, 2>*>(to + r * stride + c) = m.elements;
}

NPU_MSL float element_of_lane(float v, uint lane) {
  float r;
  asm("shfl.sync.idx.b32 %0, %1, %2, 31, 0xffffffff;" : "=f"(r) : "f"(v), "r"(lane));
  return r;
}
NPU_MSL void simdgroup_multiply_accumulate(simdgroup_float8x8& d, const simdgroup_float8x8& a,
                                           const simdgroup_float8x8& b, const simdgroup_float8x8& c) {
  const uint lane = lane_of_thread();
  float x = c.elements.x, y = c.elements.y;
#pragma unroll
  for (int k = 0; k < 8; ++k) {
    const float left = element_of_lane(k & 1 ? a.elements.y : a.elements.x, (lane & 28) + k / 2);
    x = ::fmaf(left, element_of_lane(b.elements.x, k * 4 + (lane & 3)), x);
    y = ::fmaf(left, element_of_lane(b.elements.y, k * 4 + (lane & 3)), y);
  }
  d.elements = vec<float, 2>(x, y);
}
// The instruction has 16 rows; the lower eight are zero.
#define NPU_MSL_MULTIPLY(T, type)                                                                          \
  NPU_MSL void simdgroup_multiply_accumulate(simdgroup_float8x8& d, const simdgroup_matrix<T, 8, 8>& a,    \
                                             const simdgroup_matrix<T, 8, 8>& b,                           \
                                             const simdgroup_float8x8& c) {                                \
    float x, y, p, q;                                                                                      \
    asm("mma.sync.aligned.m16n8k8.row.col.f32." type "." type                                              \
        ".f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%7,%8,%9,%10};"                                               \
        : "=f"(x), "=f"(y), "=f"(p), "=f"(q)                                                               \
        : "r"(a.rows), "r"(0), "r"(b.turned), "f"(c.elements.x), "f"(c.elements.y), "f"(0.0f), "f"(0.0f)); \
    d.elements = vec<float, 2>(x, y);                                                                      \
  }
NPU_MSL_MULTIPLY(half, "f16")
NPU_MSL_MULTIPLY(bfloat, "bf16")
#undef NPU_MSL_MULTIPLY
template <class T>
NPU_MSL void simdgroup_multiply(simdgroup_float8x8& d, const simdgroup_matrix<T, 8, 8>& a,
                                const simdgroup_matrix<T, 8, 8>& b) {
  simdgroup_multiply_accumulate(d, a, b, make_filled_simdgroup_matrix<float, 8, 8>(0.0f));
}

}  // namespace metal
