// Atomics on 32-bit integers. MSL has them in relaxed order only.
#pragma once

#include "scalars.h"

namespace metal {

enum memory_order { memory_order_relaxed = 0 };
template <class T>
struct atomic {
  T value;
};
typedef atomic<int> atomic_int;
typedef atomic<uint> atomic_uint;

template <class T>
NPU_MSL T atomic_load_explicit(const atomic<T>* p, memory_order) {
  return *(const volatile T*)&p->value;
}
template <class T>
NPU_MSL void atomic_store_explicit(atomic<T>* p, T v, memory_order) {
  *(volatile T*)&p->value = v;
}
#define NPU_MSL_ATOMIC(name, f)                     \
  template <class T>                                \
  NPU_MSL T name(atomic<T>* p, T v, memory_order) { \
    return f(&p->value, v);                         \
  }
NPU_MSL_ATOMIC(atomic_exchange_explicit, ::atomicExch)
NPU_MSL_ATOMIC(atomic_fetch_add_explicit, ::atomicAdd)
NPU_MSL_ATOMIC(atomic_fetch_sub_explicit, ::atomicSub)
NPU_MSL_ATOMIC(atomic_fetch_min_explicit, ::atomicMin)
NPU_MSL_ATOMIC(atomic_fetch_max_explicit, ::atomicMax)
NPU_MSL_ATOMIC(atomic_fetch_and_explicit, ::atomicAnd)
NPU_MSL_ATOMIC(atomic_fetch_or_explicit, ::atomicOr)
NPU_MSL_ATOMIC(atomic_fetch_xor_explicit, ::atomicXor)
#undef NPU_MSL_ATOMIC
template <class T>
NPU_MSL bool atomic_compare_exchange_weak_explicit(atomic<T>* p, T* expected, T desired, memory_order,
                                                   memory_order) {
  const T before = ::atomicCAS(&p->value, *expected, desired);
  const bool taken = before == *expected;
  *expected = before;
  return taken;
}

}  // namespace metal
