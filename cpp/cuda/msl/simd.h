// Simdgroups are warps, and barriers. All lanes that have not returned take part: the kernels see to that,
// and the emulator of Metal checks it; so every mask is full. Lanes that have returned are left out by the
// hardware.
#pragma once

#include "math.h"

namespace metal {

inline constexpr uint kAllLanes = 0xffffffffu;

NPU_MSL uint lane_of_thread() {
  uint lane;
  asm("mov.u32 %0, %%laneid;" : "=r"(lane));
  return lane;
}

// One word is moved for a type of up to four bytes, two for one of eight.
#define NPU_MSL_SHUFFLE(name, f)                                            \
  template <class T>                                                        \
  NPU_MSL T name(T v, ushort k) {                                           \
    if constexpr (lanes_v<T> > 1) {                                         \
      T r;                                                                  \
      for (int i = 0; i < lanes_v<T>; ++i) r[i] = name(v[i], k);            \
      return r;                                                             \
    } else if constexpr (sizeof(T) == 1) {                                  \
      return T(f(kAllLanes, int(v), k));                                    \
    } else if constexpr (sizeof(T) == 2) {                                  \
      return as_type<T>(ushort(f(kAllLanes, uint(as_type<ushort>(v)), k))); \
    } else {                                                                \
      return f(kAllLanes, v, k);                                            \
    }                                                                       \
  }
NPU_MSL_SHUFFLE(simd_shuffle, __shfl_sync)
NPU_MSL_SHUFFLE(simd_broadcast, __shfl_sync)
NPU_MSL_SHUFFLE(simd_shuffle_xor, __shfl_xor_sync)
NPU_MSL_SHUFFLE(simd_shuffle_up, __shfl_up_sync)
NPU_MSL_SHUFFLE(simd_shuffle_down, __shfl_down_sync)
#undef NPU_MSL_SHUFFLE

#define NPU_MSL_REDUCTION(name, result)                      \
  template <class T>                                         \
  NPU_MSL T name(T v) {                                      \
    for (int distance = 16; distance > 0; distance /= 2) {   \
      const T other = simd_shuffle_xor(v, ushort(distance)); \
      v = result;                                            \
    }                                                        \
    return v;                                                \
  }
NPU_MSL_REDUCTION(simd_sum, T(v + other))
NPU_MSL_REDUCTION(simd_product, T(v* other))
NPU_MSL_REDUCTION(simd_max, max(v, other))
NPU_MSL_REDUCTION(simd_min, min(v, other))
NPU_MSL_REDUCTION(simd_and, T(v& other))
NPU_MSL_REDUCTION(simd_or, T(v | other))
NPU_MSL_REDUCTION(simd_xor, T(v ^ other))
#undef NPU_MSL_REDUCTION

template <class T>
NPU_MSL T simd_prefix_inclusive_sum(T v) {
  for (int distance = 1; distance < 32; distance *= 2) {
    const T other = simd_shuffle_up(v, ushort(distance));
    if (lane_of_thread() >= uint(distance)) v = T(v + other);
  }
  return v;
}
template <class T>
NPU_MSL T simd_prefix_exclusive_sum(T v) {
  const T before = simd_shuffle_up(simd_prefix_inclusive_sum(v), ushort(1));
  return lane_of_thread() == 0 ? T(0) : before;
}
NPU_MSL bool simd_any(bool v) { return __any_sync(kAllLanes, v); }
NPU_MSL bool simd_all(bool v) { return __all_sync(kAllLanes, v); }
NPU_MSL bool simd_is_first() { return lane_of_thread() == __ffs(__activemask()) - 1; }

enum class mem_flags { mem_none = 0, mem_device = 1, mem_threadgroup = 2, mem_texture = 4 };
NPU_MSL mem_flags operator|(mem_flags a, mem_flags b) { return mem_flags(int(a) | int(b)); }
NPU_MSL void threadgroup_barrier(mem_flags) { __syncthreads(); }
NPU_MSL void simdgroup_barrier(mem_flags) { __syncwarp(); }

}  // namespace metal
