// Running sums and folds of rows.
#include "cpu/micro/functions.h"
#include "cpu/micro/table.h"

namespace npu::cpu::NPU_ISA {

namespace {

constexpr int kWideLanes = kLanes / 2;
typedef double F64 __attribute__((vector_size(kWideLanes * 8)));
typedef float NarrowF32 __attribute__((vector_size(kWideLanes * 4), aligned(4), may_alias));

// __builtin_convertvector would take these apart into halves.
inline F64 widened(NarrowF32 v) {
#if defined(__AVX512F__)
  return (F64)_mm512_maskz_cvtps_pd(0xff, (__m256)v);
#elif defined(__AVX2__)
  return (F64)_mm256_cvtps_pd((__m128)v);
#else
  return __builtin_convertvector(v, F64);
#endif
}
inline NarrowF32 narrowed(F64 v) {
#if defined(__AVX512F__)
  return (NarrowF32)_mm512_maskz_cvtpd_ps(0xff, (__m512d)v);
#elif defined(__AVX2__)
  return (NarrowF32)_mm256_cvtpd_ps((__m256d)v);
#else
  return __builtin_convertvector(v, NarrowF32);
#endif
}

// Running sums of the lanes: each takes in those one, two and four below it.
inline F64 lane_sums(F64 v) {
  const F64 zero = {};
#if defined(__AVX512F__)
  v += __builtin_shufflevector(v, zero, 8, 0, 1, 2, 3, 4, 5, 6);
  v += __builtin_shufflevector(v, zero, 8, 8, 0, 1, 2, 3, 4, 5);
  v += __builtin_shufflevector(v, zero, 8, 8, 8, 8, 0, 1, 2, 3);
#elif defined(__AVX2__)
  v += __builtin_shufflevector(v, zero, 4, 0, 1, 2);
  v += __builtin_shufflevector(v, zero, 4, 4, 0, 1);
#else
  v += __builtin_shufflevector(v, zero, 2, 0);
#endif
  return v;
}

double running_sum(const float* x, double before, float* y, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + kWideLanes <= n; i += kWideLanes) {
    const NarrowF32 v = *reinterpret_cast<const NarrowF32*>(x + i);
    const F64 sums = lane_sums(widened(v)) + before;
    *reinterpret_cast<NarrowF32*>(y + i) = narrowed(sums);
    before = sums[kWideLanes - 1];
  }
  for (; i < n; ++i) {
    before += static_cast<double>(x[i]);
    y[i] = static_cast<float>(before);
  }
  return before;
}

float minimum(const float* x, std::int64_t n) {
  const float most = __builtin_inff();
  F32 acc[4] = {all(most), all(most), all(most), all(most)};
  std::int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    for (int j = 0; j < 4; ++j) acc[j] = min_of(acc[j], load(x + i + j * kLanes));
  }
  for (; i + kLanes <= n; i += kLanes) acc[0] = min_of(acc[0], load(x + i));
  float best = fold_lanes(min_of(min_of(acc[0], acc[1]), min_of(acc[2], acc[3])), min_of);
  for (; i < n; ++i) best = x[i] < best || x[i] != x[i] ? x[i] : best;
  return best;
}

double product(const float* x, std::int64_t n) {
  constexpr int kParts = 8;  // multiplications at a time: each waits for the one before
  F64 parts[kParts];
  for (F64& part : parts) part = F64{} + 1.0;
  std::int64_t i = 0;
  const auto multiply = [&](int j) {
    parts[j] *= widened(*reinterpret_cast<const NarrowF32*>(x + i + j * kWideLanes));
  };
  for (; i + kParts * kWideLanes <= n; i += kParts * kWideLanes) {
    for (int j = 0; j < kParts; ++j) multiply(j);
  }
  for (; i + kWideLanes <= n; i += kWideLanes) multiply(0);
  for (int half = kParts / 2; half > 0; half /= 2) {
    for (int j = 0; j < half; ++j) parts[j] *= parts[j + half];
  }
  double lanes[kWideLanes];
  __builtin_memcpy(lanes, &parts[0], sizeof lanes);
  for (int half = kWideLanes / 2; half > 0; half /= 2) {
    for (int j = 0; j < half; ++j) lanes[j] *= lanes[j + half];
  }
  double all_of = lanes[0];
  for (; i < n; ++i) all_of *= static_cast<double>(x[i]);
  return all_of;
}

typedef std::uint64_t U64 __attribute__((vector_size(kWideLanes * 8)));
typedef std::int64_t I64 __attribute__((vector_size(kWideLanes * 8)));

// Of 64 bits, several vectors at a time. `f` takes vectors and numbers.
template <class V, class R, class F>
inline R fold_long(const R* x, std::int64_t n, R start, F f) {
  constexpr int kParts = 4;
  constexpr std::int64_t kStep = kParts * kWideLanes;
  R result = start;
  std::int64_t i = 0;
  if (n >= kStep) {
    const auto part = [x](std::int64_t at) {
      V v;
      __builtin_memcpy(&v, x + at, sizeof v);
      return v;
    };
    V parts[kParts];
    for (int j = 0; j < kParts; ++j) parts[j] = part(j * kWideLanes);
    for (i = kStep; i + kStep <= n; i += kStep) {
      for (int j = 0; j < kParts; ++j) parts[j] = f(parts[j], part(i + j * kWideLanes));
    }
    const V all_of = f(f(parts[0], parts[1]), f(parts[2], parts[3]));
    for (int lane = 0; lane < kWideLanes; ++lane) result = f(result, all_of[lane]);
  }
  for (; i < n; ++i) result = f(result, x[i]);
  return result;
}

template <class T, class R, class F>
inline R fold(const void* x, std::int64_t n, R start, F f) {
  const T* from = static_cast<const T*>(x);
  R result = start;
  for (std::int64_t i = 0; i < n; ++i) result = f(result, static_cast<R>(from[i]));
  return result;
}

template <class T>
inline std::int64_t fold_row(ExprOp op, const void* x, std::int64_t n, std::int64_t start) {
  using U = std::uint64_t;
  switch (op) {
    case ExprOp::kAdd:
      return static_cast<std::int64_t>(fold<T>(x, n, static_cast<U>(start), [](U a, U b) { return a + b; }));
    case ExprOp::kMul:
      return static_cast<std::int64_t>(fold<T>(x, n, static_cast<U>(start), [](U a, U b) { return a * b; }));
    case ExprOp::kMax:
      return n == 0 ? start
                    : fold<T>(x, n, *static_cast<const T*>(x), [](T a, T b) { return a > b ? a : b; });
    case ExprOp::kMin:
      return n == 0 ? start
                    : fold<T>(x, n, *static_cast<const T*>(x), [](T a, T b) { return a < b ? a : b; });
    default: {  // whether any is not zero
      const T any = fold<T>(x, n, T{0}, [](T a, T b) { return static_cast<T>(a | b); });
      return start != 0 || any != 0;
    }
  }
}

std::int64_t fold_longs(ExprOp op, const void* x, std::int64_t n, std::int64_t start) {
  using U = std::uint64_t;
  const auto* const numbers = static_cast<const std::int64_t*>(x);
  switch (op) {
    case ExprOp::kAdd:
      return static_cast<std::int64_t>(fold_long<U64>(static_cast<const U*>(x), n, static_cast<U>(start),
                                                      [](auto a, auto b) { return a + b; }));
    case ExprOp::kMax:
      return n == 0 ? start
                    : fold_long<I64>(numbers, n, *numbers, [](auto a, auto b) { return a > b ? a : b; });
    case ExprOp::kMin:
      return n == 0 ? start
                    : fold_long<I64>(numbers, n, *numbers, [](auto a, auto b) { return a < b ? a : b; });
    default:
      return fold_row<std::int64_t>(op, x, n, start);
  }
}

std::int64_t fold_integers(ExprOp op, DType dtype, const void* x, std::int64_t n, std::int64_t start) {
  switch (dtype) {
    case DType::kInt8:
      return fold_row<std::int8_t>(op, x, n, start);
    case DType::kInt16:
      return fold_row<std::int16_t>(op, x, n, start);
    case DType::kInt32:
      return fold_row<std::int32_t>(op, x, n, start);
    case DType::kInt64:
      return fold_longs(op, x, n, start);
    default:
      return fold_row<std::uint8_t>(op, x, n, start);
  }
}

// One by one: the gathers of AVX-512 take 1.4 times as long (Zen 5).
void pick_words(const void* x, const std::int64_t* at, void* y, std::int64_t n) {
  const auto* from = static_cast<const std::uint32_t*>(x);
  auto* to = static_cast<std::uint32_t*>(y);
  std::int64_t i = 0;
  for (; i + 4 <= n; i += 4) {
    const std::uint32_t a = from[at[i]], b = from[at[i + 1]], c = from[at[i + 2]], d = from[at[i + 3]];
    to[i] = a;
    to[i + 1] = b;
    to[i + 2] = c;
    to[i + 3] = d;
  }
  for (; i < n; ++i) to[i] = from[at[i]];
}

// A constant distance, so that compilers see which lanes to take.
template <int stride>
inline void fold_cells(const float* x, std::int64_t step, bool maximum, float* y, std::int64_t n) {
  const std::int64_t s = stride == 0 ? step : stride;
  if (maximum) {
    for (std::int64_t i = 0; i < n; ++i) {
      const float v = x[i * s], old = y[i];
      y[i] = ((v > old) | (v != v)) ? (old == old ? v : old) : old;
    }
  } else {
    for (std::int64_t i = 0; i < n; ++i) y[i] += x[i * s];
  }
}

void fold_strided(const float* x, std::int64_t stride, std::int64_t count, std::int64_t step, bool maximum,
                  float* y, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) y[i] = x[i * stride];
  for (std::int64_t k = 1; k < count; ++k) {
    const float* const from = x + k * step;
    if (stride == 1) {
      fold_cells<1>(from, 1, maximum, y, n);
    } else if (stride == 2) {
      fold_cells<2>(from, 2, maximum, y, n);
    } else {
      fold_cells<0>(from, stride, maximum, y, n);
    }
  }
}

// The elements of a vector that lie at `at`.
inline F32 picked(const float* x, const std::int64_t* at) {
#if defined(__AVX512F__)
  const __m256 low = _mm512_mask_i64gather_ps(_mm256_setzero_ps(), 0xff, _mm512_loadu_si512(at), x, 4);
  const __m256 high = _mm512_mask_i64gather_ps(_mm256_setzero_ps(), 0xff, _mm512_loadu_si512(at + 8), x, 4);
  return _mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
#else
  F32 v;
  for (int i = 0; i < kLanes; ++i) v[i] = x[at[i]];
  return v;
#endif
}

void blend_cells(const float* x, const std::int64_t* at, const float* weights, int count, float* y,
                 std::int64_t n) {
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    F32 total = {};
    for (int k = 0; k < count; ++k) {
      const F32 w = load(weights + k * n + i);
      total = w == 0.0f ? total : total + picked(x, at + k * n + i) * w;
    }
    store(y + i, total);
  }
  for (; i < n; ++i) {
    float total = 0;
    for (int k = 0; k < count; ++k) {
      const float w = weights[k * n + i];
      if (w != 0.0f) total += x[at[k * n + i]] * w;
    }
    y[i] = total;
  }
}

}  // namespace

void fill_scans(Micro& micro) {
  micro.running_sum = running_sum;
  micro.minimum = minimum;
  micro.product = product;
  micro.fold_integers = fold_integers;
  micro.pick_words = pick_words;
  micro.fold_strided = fold_strided;
  micro.blend_cells = blend_cells;
}

}  // namespace npu::cpu::NPU_ISA
