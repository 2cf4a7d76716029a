// Operations over the lanes of a simdgroup. Each lane lays its value down, waits for the others, and the
// first that goes on computes what all need. As in Apple's library: no bool, no bfloat, nothing of 64 bits.
#pragma once

#include "abi.h"
#include "integer.h"

namespace softmetal {

// Set when the machine has loaded the library.
inline const Runtime* runtime = nullptr;

// A default argument of every collective, so that an error can name the caller's line.
constexpr Site here(const char* file = __builtin_FILE(), int line = __builtin_LINE(),
                    int column = __builtin_COLUMN()) {
  return {file, line, column};
}

template <class T>
constexpr void check_lane_type() {
  using scalar = typename metal::vector_traits<T>::scalar;
  static_assert(!metal::is_same_v<scalar, bfloat>,
                "Metal has no simdgroup functions of bfloat: convert to float");
  static_assert(!metal::is_same_v<scalar, bool>,
                "Metal has no simdgroup functions of bool values: use simd_any");
  static_assert(sizeof(scalar) <= 4, "Metal has no simdgroup functions of 64-bit types");
  static_assert(sizeof(T) <= 32, "simdgroup functions take scalars and vectors");
}

// The values of all lanes, after `combine(values, active, result)` ran once for the simdgroup.
template <class T, class Combine>
inline Slot& collect(T value, Thread*& me, Site site, Combine combine) {
  check_lane_type<T>();
  me = runtime->current();
  Slot& slot = me->simdgroup->slot();
  T* values = reinterpret_cast<T*>(slot.values);
  values[me->lane] = value;
  runtime->wait(me, site);
  if (!slot.combined) {
    slot.combined = true;
    combine(values, slot.active, slot.result);
  }
  return slot;
}

constexpr unsigned kAllLanes = 0xffffffffu;

// Pairwise, in halves, as lanes that exchange by shuffles would.
template <class T, class F>
inline T reduce(T value, T identity, Site site, F f) {
  Thread* me;
  Slot& slot = collect(value, me, site, [&](const T* values, unsigned active, void* result) {
    T partial[kSimdWidth];
    for (unsigned i = 0; i < kSimdWidth; ++i) partial[i] = (active >> i) & 1 ? values[i] : identity;
    for (unsigned half_width = kSimdWidth / 2; half_width; half_width /= 2)
      for (unsigned i = 0; i < half_width; ++i) partial[i] = f(partial[i], partial[i + half_width]);
    *static_cast<T*>(result) = partial[0];
  });
  return *reinterpret_cast<T*>(slot.result);
}

template <class T, class F>
inline T scan(T value, T identity, bool inclusive, Site site, F f) {
  Thread* me;
  Slot& slot = collect(value, me, site, [&](const T* values, unsigned active, void* result) {
    T* sums = static_cast<T*>(result);
    T sum = identity;
    for (unsigned i = 0; i < kSimdWidth; ++i) {
      T before = sum;
      if ((active >> i) & 1) sum = f(sum, values[i]);
      sums[i] = inclusive ? sum : before;
    }
  });
  return reinterpret_cast<T*>(slot.result)[me->lane];
}

constexpr int kNoLane = 1 << 20;
constexpr int existing(int lane) { return lane < static_cast<int>(kSimdWidth) ? lane : kNoLane; }

// What another lane laid down. A lane outside the simdgroup gives `otherwise`; one that has ended gives
// nothing defined in Metal, so it is an error here.
template <class T, class Choose>
inline T exchange(T value, Site site, Choose choose) {
  Thread* me;
  Slot& slot = collect(value, me, site, [](const T*, unsigned, void*) {});
  int from = choose(static_cast<int>(me->lane));
  if (from == kNoLane) runtime->fail("a shuffle reads from a lane that does not exist", site);
  if (from < 0 || from >= static_cast<int>(kSimdWidth)) return value;
  if (!((slot.active >> from) & 1)) runtime->fail("a shuffle reads from a lane that is not active", site);
  return reinterpret_cast<T*>(slot.values)[from];
}

inline unsigned ballot(bool value, Site site) {
  Thread* me;
  Slot& slot =
      collect<unsigned char>(value, me, site, [](const uchar* values, unsigned active, void* result) {
        unsigned bits = 0;
        for (unsigned i = 0; i < kSimdWidth; ++i) bits |= (active >> i) & values[i] ? 1u << i : 0u;
        *static_cast<unsigned*>(result) = bits & active;
      });
  return *reinterpret_cast<unsigned*>(slot.result);
}

inline unsigned active_lanes(Site site) {
  Thread* me;
  return collect<unsigned char>(1, me, site, [](const uchar*, unsigned, void*) {}).active;
}

}  // namespace softmetal

namespace metal {

enum class mem_flags : unsigned {
  mem_none = 0,
  mem_device = 1,
  mem_threadgroup = 2,
  mem_texture = 4,
  mem_threadgroup_imageblock = 8,
  mem_object_data = 16
};
constexpr mem_flags operator|(mem_flags a, mem_flags b) {
  return static_cast<mem_flags>(static_cast<unsigned>(a) | static_cast<unsigned>(b));
}

inline void threadgroup_barrier(mem_flags flags, softmetal::Site site = softmetal::here()) {
  softmetal::runtime->barrier(static_cast<unsigned>(flags), site);
}
inline void simdgroup_barrier(mem_flags flags, softmetal::Site site = softmetal::here()) {
  softmetal::runtime->simdgroup_barrier(static_cast<unsigned>(flags), site);
}

template <class T>
using lane_scalar = typename vector_traits<T>::scalar;

template <class T>
inline T simd_sum(T value, softmetal::Site site = softmetal::here()) {
  return softmetal::reduce(value, T(0), site, [](T a, T b) { return static_cast<T>(a + b); });
}
template <class T>
inline T simd_product(T value, softmetal::Site site = softmetal::here()) {
  return softmetal::reduce(value, T(1), site, [](T a, T b) { return static_cast<T>(a * b); });
}

template <class T>
constexpr T least() {
  using scalar = lane_scalar<T>;
  if constexpr (is_floating_point_v<scalar>)
    return T(-numeric_limits<scalar>::infinity());
  else
    return T(numeric_limits<scalar>::min());
}
template <class T>
constexpr T greatest() {
  using scalar = lane_scalar<T>;
  if constexpr (is_floating_point_v<scalar>)
    return T(numeric_limits<scalar>::infinity());
  else
    return T(numeric_limits<scalar>::max());
}
template <class T>
inline T simd_max(T value, softmetal::Site site = softmetal::here()) {
  return softmetal::reduce(value, least<T>(), site, [](T a, T b) { return max(a, b); });
}
template <class T>
inline T simd_min(T value, softmetal::Site site = softmetal::here()) {
  return softmetal::reduce(value, greatest<T>(), site, [](T a, T b) { return min(a, b); });
}
template <class T>
inline T simd_and(T value, softmetal::Site site = softmetal::here()) {
  return softmetal::reduce(value, static_cast<T>(~T(0)), site,
                           [](T a, T b) { return static_cast<T>(a & b); });
}
template <class T>
inline T simd_or(T value, softmetal::Site site = softmetal::here()) {
  return softmetal::reduce(value, T(0), site, [](T a, T b) { return static_cast<T>(a | b); });
}
template <class T>
inline T simd_xor(T value, softmetal::Site site = softmetal::here()) {
  return softmetal::reduce(value, T(0), site, [](T a, T b) { return static_cast<T>(a ^ b); });
}

template <class T>
inline T simd_prefix_inclusive_sum(T value, softmetal::Site site = softmetal::here()) {
  return softmetal::scan(value, T(0), true, site, [](T a, T b) { return static_cast<T>(a + b); });
}
template <class T>
inline T simd_prefix_exclusive_sum(T value, softmetal::Site site = softmetal::here()) {
  return softmetal::scan(value, T(0), false, site, [](T a, T b) { return static_cast<T>(a + b); });
}
template <class T>
inline T simd_prefix_inclusive_product(T value, softmetal::Site site = softmetal::here()) {
  return softmetal::scan(value, T(1), true, site, [](T a, T b) { return static_cast<T>(a * b); });
}
template <class T>
inline T simd_prefix_exclusive_product(T value, softmetal::Site site = softmetal::here()) {
  return softmetal::scan(value, T(1), false, site, [](T a, T b) { return static_cast<T>(a * b); });
}

template <class T>
inline T simd_shuffle(T value, ushort from, softmetal::Site site = softmetal::here()) {
  return softmetal::exchange(value, site, [=](int) { return softmetal::existing(from); });
}
template <class T>
inline T simd_broadcast(T value, ushort from, softmetal::Site site = softmetal::here()) {
  return softmetal::exchange(value, site, [=](int) { return softmetal::existing(from); });
}
template <class T>
inline T simd_shuffle_xor(T value, ushort mask, softmetal::Site site = softmetal::here()) {
  return softmetal::exchange(value, site, [=](int lane) { return softmetal::existing(lane ^ mask); });
}
template <class T>
inline T simd_shuffle_up(T value, ushort by, softmetal::Site site = softmetal::here()) {
  return softmetal::exchange(value, site, [=](int lane) { return lane - by; });
}
template <class T>
inline T simd_shuffle_down(T value, ushort by, softmetal::Site site = softmetal::here()) {
  return softmetal::exchange(value, site, [=](int lane) { return lane + by; });
}
template <class T>
inline T simd_shuffle_rotate_up(T value, ushort by, softmetal::Site site = softmetal::here()) {
  return softmetal::exchange(value, site, [=](int lane) { return (lane + 32 - by % 32) % 32; });
}
template <class T>
inline T simd_shuffle_rotate_down(T value, ushort by, softmetal::Site site = softmetal::here()) {
  return softmetal::exchange(value, site, [=](int lane) { return (lane + by) % 32; });
}

// Lanes shift within blocks of `modulo`; what comes in from outside the block is taken from `fill`, whose
// lanes count from the other end.
template <class T>
inline T simd_shuffle_and_fill_up(T value, T fill, ushort by, ushort modulo = 32,
                                  softmetal::Site site = softmetal::here()) {
  T shifted =
      softmetal::exchange(value, site, [=](int lane) { return lane % modulo >= by ? lane - by : lane; });
  T filling = softmetal::exchange(fill, site,
                                  [=](int lane) { return lane % modulo >= by ? lane : lane - by + modulo; });
  return softmetal::runtime->current()->lane % modulo >= by ? shifted : filling;
}
template <class T>
inline T simd_shuffle_and_fill_down(T value, T fill, ushort by, ushort modulo = 32,
                                    softmetal::Site site = softmetal::here()) {
  T shifted = softmetal::exchange(value, site,
                                  [=](int lane) { return lane % modulo + by < modulo ? lane + by : lane; });
  T filling = softmetal::exchange(
      fill, site, [=](int lane) { return lane % modulo + by < modulo ? lane : lane + by - modulo; });
  return softmetal::runtime->current()->lane % modulo + by < modulo ? shifted : filling;
}

template <class T>
inline T simd_broadcast_first(T value, softmetal::Site site = softmetal::here()) {
  softmetal::Thread* me;
  softmetal::Slot& slot = softmetal::collect(value, me, site, [](const T*, unsigned, void*) {});
  return reinterpret_cast<T*>(slot.values)[__builtin_ctz(slot.active)];
}

class simd_vote {
 public:
  using vote_t = ulong;
  explicit constexpr simd_vote(vote_t bits = 0) : bits_(bits) {}
  explicit constexpr operator vote_t() const { return bits_; }
  constexpr bool all() const { return bits_ == 0xffffffffu; }
  constexpr bool any() const { return bits_ != 0; }

 private:
  vote_t bits_;
};

inline simd_vote simd_ballot(bool value, softmetal::Site site = softmetal::here()) {
  return simd_vote(softmetal::ballot(value, site));
}
inline simd_vote simd_active_threads_mask(softmetal::Site site = softmetal::here()) {
  return simd_vote(softmetal::active_lanes(site));
}
inline bool simd_any(bool value, softmetal::Site site = softmetal::here()) {
  return softmetal::ballot(value, site) != 0;
}
inline bool simd_all(bool value, softmetal::Site site = softmetal::here()) {
  return softmetal::ballot(!value, site) == 0;
}
inline bool simd_is_first(softmetal::Site site = softmetal::here()) {
  unsigned active = softmetal::active_lanes(site);
  return softmetal::runtime->current()->lane == static_cast<unsigned>(__builtin_ctz(active));
}
inline bool simd_is_helper_thread() { return false; }

}  // namespace metal
