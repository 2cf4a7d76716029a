// What MSL has no words for: copies to threadgroup memory that go on while a thread computes, and products of
// 16x8x16 on tensor cores. For the kernels of ../kernels.
#pragma once

#include "simd.h"

namespace metal::npu {

// What a lane has of four matrices of 8x8 words of 16 bits, or of 8x4 of 32; and of a 16x8 matrix of sums.
struct Matrices {
  uint of[4];
};
struct LaneSums {
  float of[4];
};

NPU_MSL uint threadgroup_address(const void* p) { return uint(__cvta_generic_to_shared(p)); }

// 16 bytes, of which those from `bytes` on become zero and are not read. Both addresses are multiples of 16.
NPU_MSL void copy_async(void* to, const void* from, int bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(threadgroup_address(to)), "l"(from),
               "r"(bytes)
               : "memory");
}
// The same of a part of a longer row, the rest of which will be wanted soon.
NPU_MSL void copy_line_async(void* to, const void* from, int bytes) {
  asm volatile("cp.async.cg.shared.global.L2::256B [%0], [%1], 16, %2;" ::"r"(threadgroup_address(to)),
               "l"(from), "r"(bytes)
               : "memory");
}
NPU_MSL void end_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Until at most kOpen of this thread's groups of copies are on their way.
template <int kOpen>
NPU_MSL void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kOpen) : "memory");
}

// Four matrices of 8x8 elements of 16 bits: lane l gives the address of row l % 8 of matrix l / 8, and gets
// two neighbours of row l / 4 of each. Turned, it gets those of the transposes.
NPU_MSL void load_matrices(Matrices& m, const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(m.of[0]), "=r"(m.of[1]), "=r"(m.of[2]), "=r"(m.of[3])
               : "r"(threadgroup_address(row))
               : "memory");
}
NPU_MSL void load_turned_matrices(Matrices& m, const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(m.of[0]), "=r"(m.of[1]), "=r"(m.of[2]), "=r"(m.of[3])
               : "r"(threadgroup_address(row))
               : "memory");
}

// sums += left * right, over a depth of 32 bytes: 16 rows by 8 columns, of which a lane has two neighbours of
// row l / 4 and two of row l / 4 + 8, from column l % 4 * 2. `low` and `high` are the halves of the right
// side.
#define NPU_MSL_MULTIPLY(T, type)                                                                            \
  NPU_MSL void multiply(LaneSums& sums, const Matrices& left, uint low, uint high, T) {                      \
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." type "." type                                      \
                 ".f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"                                \
                 : "+f"(sums.of[0]), "+f"(sums.of[1]), "+f"(sums.of[2]), "+f"(sums.of[3])                    \
                 : "r"(left.of[0]), "r"(left.of[1]), "r"(left.of[2]), "r"(left.of[3]), "r"(low), "r"(high)); \
  }
NPU_MSL_MULTIPLY(half, "f16")
NPU_MSL_MULTIPLY(bfloat, "bf16")
#undef NPU_MSL_MULTIPLY

// Two elements in a word, the first one low.
NPU_MSL uint two_of(float first, float second, half) {
  uint both;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
  return both;
}
NPU_MSL uint two_of(float first, float second, bfloat) {
  uint both;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
  return both;
}

// 2^x with an error of some 2^-22 of it.
NPU_MSL float quick_exp2(float x) {
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
  return power;
}

// Floats as sums of two of TF32, which keep 22 of their 24 bits. Nothing is left over of what is not finite,
// and nothing becomes infinite.
struct MatrixPairs {
  uint high[4], low[4];
};
NPU_MSL uint rounded_to_tf32(float x) {
  uint bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits;
}
NPU_MSL MatrixPairs pairs_of(const Matrices& m) {
  constexpr uint kExponent = 0x7f800000u;
  MatrixPairs pairs;
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    const bool finite = (m.of[k] & kExponent) != kExponent;
    const uint rounded = rounded_to_tf32(__uint_as_float(m.of[k]));
    pairs.high[k] = finite && (rounded & kExponent) == kExponent ? m.of[k] & 0xffffe000u : rounded;
    const float rest = __uint_as_float(m.of[k]) - __uint_as_float(pairs.high[k]);
    pairs.low[k] = finite ? rounded_to_tf32(rest) : 0u;
  }
  return pairs;
}
// As above, over a depth of 8 floats.
NPU_MSL void multiply_tf32(LaneSums& sums, const uint (&left)[4], uint low, uint high) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(sums.of[0]), "+f"(sums.of[1]), "+f"(sums.of[2]), "+f"(sums.of[3])
      : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(low), "r"(high));
}

}  // namespace metal::npu
