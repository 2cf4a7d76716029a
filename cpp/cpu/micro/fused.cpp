// Steps of an expression over vectors in registers: a step costs its arithmetic, and no load and store of
// what is in between. Each is rounded as it is alone: this file is compiled without fused multiply-adds.
#include "cpu/fused.h"

#include <cstddef>
#include <cstring>
#include <type_traits>

#include "cpu/micro/functions.h"
#include "cpu/micro/half.h"
#include "cpu/micro/table.h"

namespace npu::cpu::NPU_ISA {

namespace {

#define NPU_EACH_VECTOR(v) _Pragma("GCC unroll 8") for (int v = 0; v < kVectors; ++v)

// A vector of integers of up to 32 bits.
template <class T>
inline I32 words(const T* x) {
#if defined(__AVX512F__)  // which __builtin_convertvector would take apart into halves
  if constexpr (std::is_same_v<T, std::int8_t>)
    return (I32)_mm512_maskz_cvtepi8_epi32(0xffff, _mm_loadu_si128(reinterpret_cast<const __m128i*>(x)));
  if constexpr (std::is_same_v<T, std::uint8_t>)
    return (I32)_mm512_maskz_cvtepu8_epi32(0xffff, _mm_loadu_si128(reinterpret_cast<const __m128i*>(x)));
  if constexpr (std::is_same_v<T, std::int16_t>)
    return (I32)_mm512_maskz_cvtepi16_epi32(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)));
#endif
  typedef T Vector __attribute__((vector_size(kLanes * sizeof(T))));
  Vector v;
  std::memcpy(&v, x, sizeof v);
  return __builtin_convertvector(v, I32);
}

// A vector of integers, each rounded once.
template <class T>
inline F32 from_integers(const T* x) {
  if constexpr (sizeof(T) < 8) return __builtin_convertvector(words(x), F32);
#if defined(__AVX512F__)
  const __m256 low = _mm512_maskz_cvtepi64_ps(0xff, _mm512_loadu_si512(x));
  const __m256 high = _mm512_maskz_cvtepi64_ps(0xff, _mm512_loadu_si512(x + 8));
  return _mm512_maskz_insertf32x8(0xffff, _mm512_castps256_ps512(low), high, 1);
#else
  F32 v;
  for (int j = 0; j < kLanes; ++j) v[j] = static_cast<float>(x[j]);
  return v;
#endif
}

inline F32 sqrt_of(F32 a) {
#if defined(__AVX512F__)
  return _mm512_maskz_sqrt_ps(0xffff, a);
#elif defined(__AVX2__)
  return _mm256_sqrt_ps(a);
#else
  F32 v;
  for (int j = 0; j < kLanes; ++j) v[j] = __builtin_sqrtf(a[j]);
  return v;
#endif
}

// Whole vectors where kPart is false; else one, of `n` elements.
template <int kVectors, bool kPart>
struct Group {
  F32 acc[kVectors] = {}, saved[kVectors] = {};
  I32 mask[kVectors] = {}, saved_mask[kVectors] = {};  // all bits set, or none
  std::int64_t n = 0;

  static_assert(!kPart || kVectors == 1);

  F32 read(const float* x, int v) const {
    if constexpr (kPart) return load_part(x, n);
    return load(x + v * kLanes);
  }
  U16 read16(const float* x, int v) const {
    const auto* from = reinterpret_cast<const std::uint16_t*>(x);
    if constexpr (kPart) return load16_part(from, n);
    return load16(from + v * kLanes);
  }
  void write(float* x, const F32* values) const {
    if constexpr (kPart) {
      store_part(x, values[0], n);
    } else {
      NPU_EACH_VECTOR(v) store(x + v * kLanes, values[v]);
    }
  }
  template <class Convert>
  void write16(float* x, Convert convert) const {
    auto* const to = reinterpret_cast<std::uint16_t*>(x);
    if constexpr (kPart) {
      const U16 value = convert(acc[0]);
      std::memcpy(to, &value, static_cast<std::size_t>(n) * sizeof(std::uint16_t));
    } else {
      NPU_EACH_VECTOR(v) store16(to + v * kLanes, convert(acc[v]));
    }
  }
  void write_mask(float* x) const {
    F32 values[kVectors];
    NPU_EACH_VECTOR(v) values[v] = floats(mask[v]);
    write(x, values);
  }

  // use(v, operand)
  template <FusedFrom from, class Use>
  [[gnu::always_inline]] void each_operand(const float* x, Use use) {
    if constexpr (from == FusedFrom::kOne) {
      const F32 b = all(*x);
      NPU_EACH_VECTOR(v) use(v, b);
    } else if constexpr (from == FusedFrom::kF16) {
      NPU_EACH_VECTOR(v) use(v, from_f16(read16(x, v)));
    } else if constexpr (from == FusedFrom::kBF16) {
      NPU_EACH_VECTOR(v) use(v, from_bf16(read16(x, v)));
    } else if constexpr (from == FusedFrom::kSaved) {
      NPU_EACH_VECTOR(v) use(v, saved[v]);
    } else {
      NPU_EACH_VECTOR(v) use(v, read(x, v));
    }
  }

  template <class T>
  void read_integers(const std::byte* x) {
    NPU_EACH_VECTOR(v) {
      const T* from = reinterpret_cast<const T*>(x) + v * kLanes;
      T few[kLanes] = {};
      if constexpr (kPart)
        from = static_cast<const T*>(std::memcpy(few, from, static_cast<std::size_t>(n) * sizeof(T)));
      acc[v] = from_integers(from);
    }
  }

  void read_bools(const std::uint8_t* x) {
    NPU_EACH_VECTOR(v) {
      std::uint8_t few[kLanes] = {};
      const std::uint8_t* from = x + v * kLanes;
      if constexpr (kPart)
        from = static_cast<const std::uint8_t*>(std::memcpy(few, from, static_cast<std::size_t>(n)));
#if defined(__AVX512F__)
      mask[v] = (I32)_mm512_maskz_cvtepu8_epi32(0xffff,
                                                _mm_loadu_si128(reinterpret_cast<const __m128i*>(from))) != 0;
#elif defined(__AVX2__)
      mask[v] = (I32)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))) != 0;
#else
      I32 wide;
      for (int j = 0; j < kLanes; ++j) wide[j] = from[j];
      mask[v] = wide != 0;
#endif
    }
  }
  void write_bools(std::uint8_t* x) const {
    typedef std::int8_t I8 __attribute__((vector_size(kLanes)));
    NPU_EACH_VECTOR(v) {
      const I8 part = __builtin_convertvector(mask[v], I8) & 1;
      std::memcpy(x + v * kLanes, &part, static_cast<std::size_t>(kPart ? n : kLanes));
    }
  }
};

// The steps, by what becomes of the accumulator `a` and the mask `m` with the operand `b`.
#define NPU_FUSED_FLOATS(FLOATS)        \
  FLOATS(kLoad, b)                      \
  FLOATS(kAdd, a + b)                   \
  FLOATS(kSub, a - b)                   \
  FLOATS(kSubFrom, b - a)               \
  FLOATS(kMul, a* b)                    \
  FLOATS(kDiv, a / b)                   \
  FLOATS(kDivInto, b / a)               \
  FLOATS(kMax, max_of(a, b))            \
  FLOATS(kMin, min_of(a, b))            \
  FLOATS(kCopysign, with_sign_of(a, b)) \
  FLOATS(kSignOf, with_sign_of(b, a))   \
  FLOATS(kWhereSet, m != 0 ? a : b)     \
  FLOATS(kWhereElse, m != 0 ? b : a)
#define NPU_FUSED_ALONE(ALONE)                                           \
  ALONE(kSquare, a* a)                                                   \
  ALONE(kNeg, -a)                                                        \
  ALONE(kAbs, absolute(a))                                               \
  ALONE(kSign, a > 0.0f ? all(1.0f) : a < 0.0f ? all(-1.0f) : all(0.0f)) \
  ALONE(kRelu, a < 0.0f ? all(0.0f) : a)                                 \
  ALONE(kReciprocal, 1.0f / a)                                           \
  ALONE(kSqrt, sqrt_of(a))                                               \
  ALONE(kRsqrt, 1.0f / sqrt_of(a))                                       \
  ALONE(kFloor, floor_of(a))                                             \
  ALONE(kCeil, ceil_of(a))                                               \
  ALONE(kRound, round_even(a))                                           \
  ALONE(kTrunc, trunc_of(a))                                             \
  ALONE(kRoundF16, from_f16(to_f16(a)))                                  \
  ALONE(kRoundBF16, from_bf16(to_bf16(a)))                               \
  ALONE(kFromMask, floats(m& bits(all(1.0f))))
#define NPU_FUSED_TESTS(TEST) \
  TEST(kEq, a == b)           \
  TEST(kNe, a != b)           \
  TEST(kLt, a < b)            \
  TEST(kLe, a <= b)           \
  TEST(kGt, a > b)            \
  TEST(kGe, a >= b)
#define NPU_FUSED_MASKS(MASK) \
  MASK(kLoadMask, b)          \
  MASK(kAnd, m& b)            \
  MASK(kOr, m | b)            \
  MASK(kXor, m ^ b)

constexpr int key(FusedOp op, FusedFrom from) { return static_cast<int>(op) * 8 + static_cast<int>(from); }

// The elements of a group, from i of the row on.
template <int kVectors, bool kPart>
[[gnu::always_inline]] inline void run_group(Group<kVectors, kPart>& g, const FusedStep* steps, int count,
                                             std::int64_t row, std::int64_t i) {
  for (const FusedStep* s = steps; s < steps + count; ++s) {
    auto* const place = static_cast<std::byte*>(s->x) + row * s->row_step + i * s->step;
    auto* const x = reinterpret_cast<float*>(place);
    switch (key(s->op, s->from)) {
#define NPU_FROM(name, source, to, value)                             \
  case key(FusedOp::name, FusedFrom::source):                         \
    g.template each_operand<FusedFrom::source>(x, [&](int v, F32 b) { \
      [[maybe_unused]] const F32 a = g.acc[v];                        \
      [[maybe_unused]] const I32 m = g.mask[v];                       \
      g.to[v] = value;                                                \
    });                                                               \
    break;
#define NPU_EACH_FROM(name, to, value) \
  NPU_FROM(name, kFloats, to, value)   \
  NPU_FROM(name, kOne, to, value)      \
  NPU_FROM(name, kF16, to, value)      \
  NPU_FROM(name, kBF16, to, value)     \
  NPU_FROM(name, kSaved, to, value)
#define NPU_CASE(name, value) NPU_EACH_FROM(name, acc, value)
      NPU_FUSED_FLOATS(NPU_CASE)
#undef NPU_CASE
#define NPU_CASE(name, value) NPU_EACH_FROM(name, mask, value)
      NPU_FUSED_TESTS(NPU_CASE)
#undef NPU_CASE
#undef NPU_EACH_FROM
#undef NPU_FROM
#define NPU_CASE(name, value)                   \
  case key(FusedOp::name, FusedFrom::kFloats):  \
    NPU_EACH_VECTOR(v) {                        \
      [[maybe_unused]] const F32 a = g.acc[v];  \
      [[maybe_unused]] const I32 m = g.mask[v]; \
      g.acc[v] = value;                         \
    }                                           \
    break;
      NPU_FUSED_ALONE(NPU_CASE)
#undef NPU_CASE
#define NPU_CASE(name, value)                   \
  case key(FusedOp::name, FusedFrom::kFloats):  \
    NPU_EACH_VECTOR(v) {                        \
      [[maybe_unused]] const I32 m = g.mask[v]; \
      const I32 b = bits(g.read(x, v));         \
      g.mask[v] = value;                        \
    }                                           \
    break;                                      \
  case key(FusedOp::name, FusedFrom::kSaved):   \
    NPU_EACH_VECTOR(v) {                        \
      [[maybe_unused]] const I32 m = g.mask[v]; \
      const I32 b = g.saved_mask[v];            \
      g.mask[v] = value;                        \
    }                                           \
    break;
      NPU_FUSED_MASKS(NPU_CASE)
#undef NPU_CASE
#define NPU_CASE(name, ...)                    \
  case key(FusedOp::name, FusedFrom::kFloats): \
    __VA_ARGS__;                               \
    break;
      NPU_CASE(kLoadInt8, g.template read_integers<std::int8_t>(place))
      NPU_CASE(kLoadUInt8, g.template read_integers<std::uint8_t>(place))
      NPU_CASE(kLoadInt16, g.template read_integers<std::int16_t>(place))
      NPU_CASE(kLoadInt32, g.template read_integers<std::int32_t>(place))
      NPU_CASE(kLoadInt64, g.template read_integers<std::int64_t>(place))
      NPU_CASE(kIsnan, NPU_EACH_VECTOR(v) g.mask[v] = g.acc[v] != g.acc[v])
      NPU_CASE(kIsinf, NPU_EACH_VECTOR(v) g.mask[v] = absolute(g.acc[v]) == __builtin_inff())
      NPU_CASE(kNot, NPU_EACH_VECTOR(v) g.mask[v] = ~g.mask[v])
      NPU_CASE(kSave, NPU_EACH_VECTOR(v) g.saved[v] = g.acc[v])
      NPU_CASE(kSaveMask, NPU_EACH_VECTOR(v) g.saved_mask[v] = g.mask[v])
      NPU_CASE(kStore, g.write(x, g.acc))
      NPU_CASE(kStoreF16, g.write16(x, to_f16))
      NPU_CASE(kStoreBF16, g.write16(x, to_bf16))
      NPU_CASE(kStoreMask, g.write_mask(x))
      NPU_CASE(kLoadBools, g.read_bools(reinterpret_cast<const std::uint8_t*>(place)))
      NPU_CASE(kStoreBools, g.write_bools(reinterpret_cast<std::uint8_t*>(place)))
#undef NPU_CASE
      default:
        __builtin_unreachable();
    }
  }
}

// The elements i to end of all rows, in whole groups, or in one of `end - i` elements; returns where they
// end.
template <int kVectors, bool kPart>
std::int64_t run_groups(const FusedStep* steps, int count, std::int64_t rows, std::int64_t i,
                        std::int64_t end) {
  Group<kVectors, kPart> g;
  g.n = end - i;
  constexpr std::int64_t kCount = kVectors * kLanes;
  for (; kPart ? i < end : i + kCount <= end; i += kCount) {
    for (std::int64_t row = 0; row < rows; ++row) run_group(g, steps, count, row, i);
  }
  return i;
}

void fused(const FusedStep* steps, int count, std::int64_t rows, std::int64_t n) {
#if defined(__AVX512F__) || defined(__aarch64__)
  constexpr int kMost = 8;  // of 32 registers
#else
  constexpr int kMost = 4;
#endif
  static_assert(kMost * kLanes <= kFusedGroup);
  std::int64_t i = run_groups<kMost, false>(steps, count, rows, 0, n);
  if (i + 2 * kLanes <= n) i = run_groups<2, false>(steps, count, rows, i, n);
  if (i + kLanes <= n) i = run_groups<1, false>(steps, count, rows, i, n);
  if (i < n) run_groups<1, true>(steps, count, rows, i, n);
}

void scale_rows(float* y, std::int64_t step, std::int64_t rows, std::int64_t n, float by, float plus) {
  for (std::int64_t i = 0; i < rows; ++i)
    each(y + i * step, y + i * step, n, [=](F32 v) { return v * by + plus; });
}

}  // namespace

void fill_fused(Micro& micro) {
  micro.fused = fused;
  micro.scale_rows = scale_rows;
}

}  // namespace npu::cpu::NPU_ISA
