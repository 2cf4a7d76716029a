// The same over the four lanes of a quadgroup. All quadgroups of a simdgroup must come to the operation
// together, which Metal does not ask for.
#pragma once

#include "simd.h"

namespace softmetal {

template <class T, class F>
inline T reduce_quad(T value, Site site, F f) {
  Thread* me;
  Slot& slot = collect(value, me, site, [](const T*, unsigned, void*) {});
  const T* values = reinterpret_cast<const T*>(slot.values);
  unsigned first = me->lane & ~3u;
  T result{};
  bool started = false;
  for (unsigned lane = first; lane < first + 4; ++lane) {
    if (!((slot.active >> lane) & 1)) continue;
    result = started ? f(result, values[lane]) : values[lane];
    started = true;
  }
  return result;
}

template <class T, class Choose>
inline T exchange_quad(T value, Site site, Choose choose) {
  return exchange(value, site, [=](int lane) {
    int from = choose(lane & 3);
    return from < 0 || from > 3 ? lane : (lane & ~3) + from;
  });
}

}  // namespace softmetal

namespace metal {

#define SOFTMETAL_QUAD_REDUCTION(name, expression)                                                   \
  template <class T>                                                                                 \
  inline T quad_##name(T value, softmetal::Site site = softmetal::here()) {                          \
    return softmetal::reduce_quad(value, site, [](T a, T b) { return static_cast<T>(expression); }); \
  }
SOFTMETAL_QUAD_REDUCTION(sum, a + b)
SOFTMETAL_QUAD_REDUCTION(product, a* b)
SOFTMETAL_QUAD_REDUCTION(max, max(a, b))
SOFTMETAL_QUAD_REDUCTION(min, min(a, b))
SOFTMETAL_QUAD_REDUCTION(and, a& b)
SOFTMETAL_QUAD_REDUCTION(or, a | b)
SOFTMETAL_QUAD_REDUCTION(xor, a ^ b)
#undef SOFTMETAL_QUAD_REDUCTION

template <class T>
inline T quad_shuffle(T value, ushort from, softmetal::Site site = softmetal::here()) {
  return softmetal::exchange_quad(value, site, [=](int) { return from; });
}
template <class T>
inline T quad_broadcast(T value, ushort from, softmetal::Site site = softmetal::here()) {
  return softmetal::exchange_quad(value, site, [=](int) { return from; });
}
template <class T>
inline T quad_shuffle_xor(T value, ushort mask, softmetal::Site site = softmetal::here()) {
  return softmetal::exchange_quad(value, site, [=](int lane) { return lane ^ mask; });
}
template <class T>
inline T quad_shuffle_up(T value, ushort by, softmetal::Site site = softmetal::here()) {
  return softmetal::exchange_quad(value, site, [=](int lane) { return lane - by; });
}
template <class T>
inline T quad_shuffle_down(T value, ushort by, softmetal::Site site = softmetal::here()) {
  return softmetal::exchange_quad(value, site, [=](int lane) { return lane + by; });
}
inline bool quad_any(bool value, softmetal::Site site = softmetal::here()) {
  return softmetal::reduce_quad<uchar>(value, site, [](uchar a, uchar b) { return uchar(a | b); }) != 0;
}
inline bool quad_all(bool value, softmetal::Site site = softmetal::here()) {
  return softmetal::reduce_quad<uchar>(value, site, [](uchar a, uchar b) { return uchar(a & b); }) != 0;
}

}  // namespace metal
