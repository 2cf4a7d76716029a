// Atomic types and operations, of device and threadgroup memory. Only relaxed order exists, as in MSL 3.1.
#pragma once

#include "simd.h"

namespace metal {

enum memory_order { memory_order_relaxed = 0 };

template <class T>
struct atomic {
  static_assert(is_same_v<T, int> || is_same_v<T, uint> || is_same_v<T, bool> || is_same_v<T, float> ||
                    is_same_v<T, ulong>,
                "Metal has atomics of int, uint, bool, float and ulong");
  T value;
};
using atomic_int = atomic<int>;
using atomic_uint = atomic<uint>;
using atomic_bool = atomic<bool>;
using atomic_float = atomic<float>;
using atomic_ulong = atomic<ulong>;

// The accesses below are not instrumented: they report themselves, as atomic ones.
#ifdef SOFTMETAL_CHECKED
#define SOFTMETAL_ATOMIC __attribute__((no_sanitize("kernel-address"), noinline))
#define SOFTMETAL_NOTE(pointer, kind)                                                       \
  softmetal::runtime->access(const_cast<void*>(static_cast<const volatile void*>(pointer)), \
                             sizeof(*pointer), (kind) | softmetal::kAtomic, __builtin_return_address(0))
#else
#define SOFTMETAL_ATOMIC inline
#define SOFTMETAL_NOTE(pointer, kind) (void)0
#endif

template <class T>
SOFTMETAL_ATOMIC T atomic_load_explicit(const volatile atomic<T>* p, memory_order) {
  SOFTMETAL_NOTE(p, softmetal::kRead);
  T result;
  __atomic_load(&p->value, &result, __ATOMIC_RELAXED);
  return result;
}
template <class T>
SOFTMETAL_ATOMIC void atomic_store_explicit(volatile atomic<T>* p, type_identity_t<T> value, memory_order) {
  SOFTMETAL_NOTE(p, softmetal::kWrite);
  __atomic_store(&p->value, &value, __ATOMIC_RELAXED);
}
template <class T>
SOFTMETAL_ATOMIC T atomic_exchange_explicit(volatile atomic<T>* p, type_identity_t<T> value, memory_order) {
  SOFTMETAL_NOTE(p, softmetal::kRead);
  SOFTMETAL_NOTE(p, softmetal::kWrite);
  T result;
  __atomic_exchange(&p->value, &value, &result, __ATOMIC_RELAXED);
  return result;
}
template <class T>
SOFTMETAL_ATOMIC bool atomic_compare_exchange_weak_explicit(volatile atomic<T>* p, T* expected,
                                                            type_identity_t<T> desired, memory_order,
                                                            memory_order) {
  SOFTMETAL_NOTE(p, softmetal::kRead);
  SOFTMETAL_NOTE(p, softmetal::kWrite);
  return __atomic_compare_exchange(&p->value, expected, &desired, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

#define SOFTMETAL_FETCH(name, condition, text, expression)                                                \
  template <class T>                                                                                      \
  SOFTMETAL_ATOMIC T atomic_fetch_##name##_explicit(volatile atomic<T>* p, type_identity_t<T> operand,    \
                                                    memory_order) {                                       \
    static_assert(condition, "Metal has atomic_fetch_" #name " of " text);                                \
    SOFTMETAL_NOTE(p, softmetal::kRead);                                                                  \
    SOFTMETAL_NOTE(p, softmetal::kWrite);                                                                 \
    T old, next;                                                                                          \
    __atomic_load(&p->value, &old, __ATOMIC_RELAXED);                                                     \
    do next = static_cast<T>(expression);                                                                 \
    while (!__atomic_compare_exchange(&p->value, &old, &next, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)); \
    return old;                                                                                           \
  }
#define SOFTMETAL_INT32 (is_same_v<T, int> || is_same_v<T, uint>)
SOFTMETAL_FETCH(add, SOFTMETAL_INT32 || (is_same_v<T, float>), "int, uint and float", old + operand)
SOFTMETAL_FETCH(sub, SOFTMETAL_INT32 || (is_same_v<T, float>), "int, uint and float", old - operand)
SOFTMETAL_FETCH(min, SOFTMETAL_INT32, "int and uint", min(old, operand))
SOFTMETAL_FETCH(max, SOFTMETAL_INT32, "int and uint", max(old, operand))
SOFTMETAL_FETCH(and, SOFTMETAL_INT32, "int and uint", old& operand)
SOFTMETAL_FETCH(or, SOFTMETAL_INT32, "int and uint", old | operand)
SOFTMETAL_FETCH(xor, SOFTMETAL_INT32, "int and uint", old ^ operand)
#undef SOFTMETAL_INT32
#undef SOFTMETAL_FETCH

}  // namespace metal
