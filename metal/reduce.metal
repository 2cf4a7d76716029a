// Reductions of any dimensions. A result is folded by a simdgroup or a threadgroup where its elements are
// neighbours, and by a few threads where neighbours belong to different results. Few results of many elements
// are folded in parts, which reduce_parts joins.
#include "fold.h"

constant int kKind [[function_constant(kFcReduceKind)]];     // ReduceKind
constant bool kParts [[function_constant(kFcReduceParts)]];  // y is not written but the parts
constant bool kDense [[function_constant(kFcReduceDense)]];  // the elements of a result are neighbours

inline ReduceKind what() { return ReduceKind(kKind); }

// Results are of x's type, bool or int64, by what is asked for.
template <typename Y>
inline void put(device char* y, int64_t at, Y value) {
  ((device Y*)y)[at] = value;
}

// Sums, products, extremes, truth: floats.
template <typename R>
struct Total {
  using Acc = Exact;
  static constant constexpr bool kCentred = false;
  static Acc none() {
    switch (what()) {
      case ReduceKind::kProd:
      case ReduceKind::kAll:
        return exact(1.0f);
      case ReduceKind::kMax:
        return exact(-INFINITY);
      case ReduceKind::kMin:
        return exact(INFINITY);
      default:
        return exact(0.0f);
    }
  }
  static Acc merge(Acc a, Acc b) {
    switch (what()) {
      case ReduceKind::kProd:
        return times(a, b);
      case ReduceKind::kMax:
        return exact(nan_max(a.main, b.main));
      case ReduceKind::kMin:
        return exact(a.main < b.main || a.main != a.main ? a.main : b.main);
      case ReduceKind::kAny:
        return exact(a.main != 0.0f || b.main != 0.0f ? 1.0f : 0.0f);
      case ReduceKind::kAll:
        return exact(a.main != 0.0f && b.main != 0.0f ? 1.0f : 0.0f);
      default:
        return plus(a, b);
    }
  }
  static Acc add(Acc a, float x, uint) { return merge(a, exact(x)); }

  template <typename T>
  static void write(device char* y, int64_t at, Acc a, constant ReduceArgs& args) {
    if (what() == ReduceKind::kAny || what() == ReduceKind::kAll) {
      put<bool>(y, at, a.main != 0.0f);
    } else if (what() == ReduceKind::kMean) {
      put<T>(y, at, T(value_of(a) / float(args.count)));
    } else {
      put<T>(y, at, T(value_of(a)));
    }
  }
};

// The same of integers and bools.
template <>
struct Total<int64_t> {
  using Acc = int64_t;
  static constant constexpr bool kCentred = false;
  static Acc none() {
    switch (what()) {
      case ReduceKind::kProd:
      case ReduceKind::kAll:
        return 1;
      case ReduceKind::kMax:
        return int64_t(0x8000000000000000ul);
      case ReduceKind::kMin:
        return 0x7fffffffffffffffl;
      default:
        return 0;
    }
  }
  static Acc merge(Acc a, Acc b) {
    switch (what()) {
      case ReduceKind::kProd:
        return Product<int64_t>::merge(a, b);
      case ReduceKind::kMax:
        return a > b ? a : b;
      case ReduceKind::kMin:
        return a < b ? a : b;
      case ReduceKind::kAny:
        return a != 0 || b != 0;
      case ReduceKind::kAll:
        return a != 0 && b != 0;
      default:
        return Sum<int64_t>::merge(a, b);
    }
  }
  static Acc add(Acc a, int64_t x, uint) { return merge(a, x); }

  template <typename T>
  static void write(device char* y, int64_t at, Acc a, constant ReduceArgs&) {
    if (what() == ReduceKind::kSum || what() == ReduceKind::kProd) {
      put<int64_t>(y, at, a);
    } else if (what() == ReduceKind::kAny || what() == ReduceKind::kAll) {
      put<bool>(y, at, a != 0);
    } else {
      put<T>(y, at, T(a));
    }
  }
};

template <typename R>
struct Candidate {
  R value;
  uint index;
};

template <typename R, typename Shuffle>
inline Candidate<R> moved(Candidate<R> a, Shuffle shuffle) {
  return {moved(a.value, shuffle), shuffle(a.index)};
}

// Where the greatest or least is: the first of equals, NaN before everything.
template <typename R>
struct Position {
  using Acc = Candidate<R>;
  static constant constexpr bool kCentred = false;
  static Acc none() { return {what() == ReduceKind::kArgmax ? least(R(0)) : greatest(R(0)), 0xffffffffu}; }
  static float least(float) { return -INFINITY; }
  static float greatest(float) { return INFINITY; }
  static int64_t least(int64_t) { return int64_t(0x8000000000000000ul); }
  static int64_t greatest(int64_t) { return 0x7fffffffffffffffl; }

  static Acc merge(Acc a, Acc b) {
    const bool a_nan = a.value != a.value, b_nan = b.value != b.value;
    bool first = a.index < b.index;
    if (a_nan != b_nan) {
      first = a_nan;
    } else if (a.value != b.value && !a_nan) {
      first = what() == ReduceKind::kArgmax ? a.value > b.value : a.value < b.value;
    }
    return {first ? a.value : b.value, first ? a.index : b.index};
  }
  static Acc add(Acc a, R x, uint index) { return merge(a, {x, index}); }

  template <typename T>
  static void write(device char* y, int64_t at, Acc a, constant ReduceArgs&) {
    put<int64_t>(y, at, int64_t(a.index));
  }
};

// For standard deviations the squares also of numbers that are scaled: a root may exist where its square does
// not.
struct Deviation {
  Spread spread;  // its sum times kSum
  Exact large;    // squares of numbers times kDown
  Spread small;   // of numbers times kUp
};
// kSum keeps sums of the largest numbers finite, kDown their squares; kUp keeps squares of denormals normal.
constant constexpr float kDown = 0x1p-80f, kUp = 0x1p90f, kSum = 0x1p-24f;

template <typename Shuffle>
inline Deviation moved(Deviation a, Shuffle shuffle) {
  return {moved(a.spread, shuffle), moved(a.large, shuffle), moved(a.small, shuffle)};
}

template <typename R>
struct Variance {
  using Acc = Deviation;
  static constant constexpr bool kCentred = true;
  static Acc none() { return {Spreads::none(), exact(0.0f), Spreads::none()}; }
  static Exact plus_square(Exact a, float x) { return plus(a, times(exact(x), exact(x))); }
  static Acc add(Acc a, float above, uint index) {
    if (what() == ReduceKind::kVar) return {Spreads::add(a.spread, above, index), a.large, a.small};
    return {{plus(a.spread.sum, exact(above * kSum)), plus_square(a.spread.squares, above)},
            plus_square(a.large, above * kDown),
            Spreads::add(a.small, above * kUp, index)};
  }
  static Acc merge(Acc a, Acc b) {
    return {Spreads::merge(a.spread, b.spread), plus(a.large, b.large), Spreads::merge(a.small, b.small)};
  }

  // Around the mean, of the numbers times `scale`.
  static float scaled_squares(Acc a, Exact squares, float scale, constant ReduceArgs& args) {
    const float back = scale / kSum;
    const Spread spread{{a.spread.sum.main * back, a.spread.sum.rest * back}, squares};
    return squares_around_mean(spread, float(args.count));
  }
  static float root(Acc a, constant ReduceArgs& args) {
    const float plain = scaled_squares(a, a.spread.squares, 1.0f, args);
    if (plain > 1e-30f && isfinite(plain)) return precise::sqrt(plain / args.divisor);
    const bool tiny = plain <= 1e-30f;
    const float squares =
        tiny ? squares_around_mean(a.small, float(args.count)) : scaled_squares(a, a.large, kDown, args);
    return precise::sqrt(squares / args.divisor) / (tiny ? kUp : kDown);
  }

  template <typename T>
  static void write(device char* y, int64_t at, Acc a, constant ReduceArgs& args) {
    const bool deviation = what() == ReduceKind::kStd;
    put<T>(y, at,
           T(deviation ? root(a, args) : squares_around_mean(a.spread, float(args.count)) / args.divisor));
  }
};

// Folds what comes to one of `threads` of the elements [begin, end) of a result.
template <typename T, typename Fold>
inline typename Fold::Acc fold_some(constant ReduceArgs& args, const device T* x, uint begin, uint end,
                                    uint thread_at, uint threads) {
  const Register<T> centre = Fold::kCentred && args.count > 0 ? Register<T>(*x) : Register<T>(0);
  typename Fold::Acc a = Fold::none();
  if (kDense) {
    uint i = begin + 4 * thread_at;
    for (; i + 4 <= end; i += 4 * threads) {
      const auto four = load4(x + i);
      for (uint k = 0; k < 4; ++k) a = Fold::add(a, Fold::kCentred ? four[k] - centre : four[k], i + k);
    }
    for (; i < end; ++i) a = Fold::add(a, Fold::kCentred ? Register<T>(x[i]) - centre : Register<T>(x[i]), i);
    return a;
  }
  if (begin + thread_at >= end) return a;
  Stepper<1> at(args.reduced, begin + thread_at, threads);
  for (uint i = begin + thread_at; i < end; i += threads) {
    const auto value = Register<T>(x[at.offset(args.reduced, 0)]);
    a = Fold::add(a, Fold::kCentred ? value - centre : value, i);
    at.advance(args.reduced);
  }
  return a;
}

template <typename T, typename Fold>
inline void finish(constant ReduceArgs& args, device char* y, device typename Fold::Acc* parts, uint result,
                   uint part, typename Fold::Acc a) {
  if (kParts) {
    parts[int64_t(part) * args.results + result] = a;
  } else {
    Fold::template write<T>(y, walk(args.kept, result).of[0], a, args);
  }
}

constant bool kWhole = !kParts;

// The first part is there even if it has no elements.
inline bool has_part(constant ReduceArgs& args, uint part) {
  return part == 0 || part * uint(args.part) < uint(args.count);
}

// A simdgroup for a result; parts along y.
template <typename T, typename Fold>
[[kernel]] void reduce_lanes(
    constant ReduceArgs& args [[buffer(kBufferArgs)]], const device T* x [[buffer(kBufferX)]],
    device char* y [[buffer(kBufferY), function_constant(kWhole)]],
    device typename Fold::Acc* parts [[buffer(kBufferReduceParts), function_constant(kParts)]],
    uint2 group [[threadgroup_position_in_grid]], uint simdgroup [[simdgroup_index_in_threadgroup]],
    uint simdgroups [[simdgroups_per_threadgroup]], uint lane [[thread_index_in_simdgroup]]) {
  const uint result = group.x * simdgroups + simdgroup;
  if (result >= uint(args.results) || !has_part(args, group.y)) return;  // the whole simdgroup leaves
  const uint begin = group.y * uint(args.part), end = min(begin + uint(args.part), uint(args.count));
  const device T* from = x + walk(args.kept, result).of[1];
  const typename Fold::Acc a = across_lanes<Fold>(fold_some<T, Fold>(args, from, begin, end, lane, kSimd));
  if (lane == 0) finish<T, Fold>(args, y, parts, result, group.y, a);
}

// A threadgroup for a result; parts along y.
template <typename T, typename Fold>
[[kernel]] void reduce_group(
    constant ReduceArgs& args [[buffer(kBufferArgs)]], const device T* x [[buffer(kBufferX)]],
    device char* y [[buffer(kBufferY), function_constant(kWhole)]],
    device typename Fold::Acc* parts [[buffer(kBufferReduceParts), function_constant(kParts)]],
    uint2 group [[threadgroup_position_in_grid]], uint2 thread_at [[thread_position_in_threadgroup]],
    uint2 threads [[threads_per_threadgroup]], uint simdgroup [[simdgroup_index_in_threadgroup]],
    uint simdgroups [[simdgroups_per_threadgroup]], uint lane [[thread_index_in_simdgroup]]) {
  threadgroup typename Fold::Acc room[kSimd];
  if (group.x >= uint(args.results) || !has_part(args, group.y)) return;
  const uint begin = group.y * uint(args.part), end = min(begin + uint(args.part), uint(args.count));
  const device T* from = x + walk(args.kept, group.x).of[1];
  typename Fold::Acc a = fold_some<T, Fold>(args, from, begin, end, thread_at.x, threads.x);
  a = across_group<Fold>(a, room, lane, simdgroup, simdgroups);
  if (thread_at.x == 0) finish<T, Fold>(args, y, parts, group.x, group.y, a);
}

// A lane for a result, whose elements the simdgroups share; parts along y.
template <typename T, typename Fold>
[[kernel]] void reduce_columns(
    constant ReduceArgs& args [[buffer(kBufferArgs)]], const device T* x [[buffer(kBufferX)]],
    device char* y [[buffer(kBufferY), function_constant(kWhole)]],
    device typename Fold::Acc* parts [[buffer(kBufferReduceParts), function_constant(kParts)]],
    uint2 group [[threadgroup_position_in_grid]], uint simdgroup [[simdgroup_index_in_threadgroup]],
    uint simdgroups [[simdgroups_per_threadgroup]], uint lane [[thread_index_in_simdgroup]]) {
  threadgroup typename Fold::Acc room[kMostReduceSimdgroups * kSimd];
  if (!has_part(args, group.y)) return;
  const uint result = group.x * kSimd + lane;
  const bool exists = result < uint(args.results);
  const uint begin = group.y * uint(args.part), end = min(begin + uint(args.part), uint(args.count));
  typename Fold::Acc a = Fold::none();
  if (exists)
    a = fold_some<T, Fold>(args, x + walk(args.kept, result).of[1], begin, end, simdgroup, simdgroups);
  room[simdgroup * kSimd + lane] = a;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (!exists || simdgroup > 0) return;
  for (uint s = 1; s < simdgroups; ++s) a = Fold::merge(a, room[s * kSimd + lane]);
  finish<T, Fold>(args, y, parts, result, group.y, a);
}

// Joins the parts of a result by a simdgroup; args.part says how many there are.
template <typename T, typename Fold>
[[kernel]] void reduce_parts(constant ReduceArgs& args [[buffer(kBufferArgs)]],
                             const device typename Fold::Acc* parts [[buffer(kBufferReduceParts)]],
                             device char* y [[buffer(kBufferY)]], uint group [[threadgroup_position_in_grid]],
                             uint simdgroup [[simdgroup_index_in_threadgroup]],
                             uint simdgroups [[simdgroups_per_threadgroup]],
                             uint lane [[thread_index_in_simdgroup]]) {
  const uint result = group * simdgroups + simdgroup;
  if (result >= uint(args.results)) return;  // the whole simdgroup leaves
  typename Fold::Acc a = Fold::none();
  for (uint p = lane; p < uint(args.part); p += kSimd)
    a = Fold::merge(a, parts[int64_t(p) * args.results + result]);
  a = across_lanes<Fold>(a);
  if (lane == 0) Fold::template write<T>(y, walk(args.kept, result).of[0], a, args);
}

static_assert(sizeof(Total<float>::Acc) == kTotalBytes && sizeof(Total<int64_t>::Acc) == kTotalBytes &&
                  sizeof(Position<float>::Acc) == kCandidateBytes &&
                  sizeof(Position<int64_t>::Acc) == kWideCandidateBytes &&
                  sizeof(Variance<float>::Acc) == kVarianceBytes,
              "as in the scratch");

#define NPU_REDUCE(kernel, name, Fold, T) \
  template [[host_name(                   \
      #kernel "_" name                    \
              "_" #T)]] [[kernel]] decltype(kernel<T, Fold<Register<T>>>) kernel<T, Fold<Register<T>>>;
#define NPU_REDUCE_FOLD(name, Fold, T)      \
  NPU_REDUCE(reduce_lanes, name, Fold, T)   \
  NPU_REDUCE(reduce_group, name, Fold, T)   \
  NPU_REDUCE(reduce_columns, name, Fold, T) \
  NPU_REDUCE(reduce_parts, name, Fold, T)
#define NPU_REDUCE_TYPE(T)           \
  NPU_REDUCE_FOLD("total", Total, T) \
  NPU_REDUCE_FOLD("position", Position, T)

NPU_REDUCE_TYPE(float)
NPU_REDUCE_TYPE(half)
NPU_REDUCE_TYPE(bfloat)
NPU_REDUCE_TYPE(char)
NPU_REDUCE_TYPE(short)
NPU_REDUCE_TYPE(int)
NPU_REDUCE_TYPE(long)
NPU_REDUCE_TYPE(uchar)
NPU_REDUCE_TYPE(bool)
NPU_REDUCE_FOLD("variance", Variance, float)
NPU_REDUCE_FOLD("variance", Variance, half)
NPU_REDUCE_FOLD("variance", Variance, bfloat)
