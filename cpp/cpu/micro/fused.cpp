// Steps of an expression over vectors in registers: a step costs its arithmetic, and no load and store of
// what is in between. Each is rounded as it is alone: this file is compiled without fused multiply-adds.
#include "cpu/fused.h"

#include <cstddef>
#include <cstring>

#include "cpu/micro/functions.h"
#include "cpu/micro/half.h"
#include "cpu/micro/table.h"

namespace npu::cpu::NPU_ISA {

namespace {

#define NPU_EACH_VECTOR(v) _Pragma("GCC unroll 8") for (int v = 0; v < kVectors; ++v)

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
  template <class Use>
  [[gnu::always_inline]] void each_operand(const FusedStep& s, const float* x, Use use) {
    switch (s.from) {
      case FusedFrom::kOne: {
        const F32 b = all(*x);
        NPU_EACH_VECTOR(v) use(v, b);
        return;
      }
      case FusedFrom::kF16: {
        NPU_EACH_VECTOR(v) use(v, from_f16(read16(x, v)));
        return;
      }
      case FusedFrom::kBF16: {
        NPU_EACH_VECTOR(v) use(v, from_bf16(read16(x, v)));
        return;
      }
      case FusedFrom::kSaved: {
        NPU_EACH_VECTOR(v) use(v, saved[v]);
        return;
      }
      default: {
        NPU_EACH_VECTOR(v) use(v, read(x, v));
      }
    }
  }
  template <class Use>
  [[gnu::always_inline]] void each_mask(const FusedStep& s, const float* x, Use use) {
    if (s.from == FusedFrom::kSaved) {
      NPU_EACH_VECTOR(v) use(v, saved_mask[v]);
    } else {
      NPU_EACH_VECTOR(v) use(v, bits(read(x, v)));
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

inline std::int64_t offset_of(const FusedStep& s, std::int64_t row, std::int64_t i) {
  return row * s.row_step + (i & s.along);
}
inline float* place_of(const FusedStep& s, std::int64_t row, std::int64_t i) {
  const bool narrow = s.from == FusedFrom::kF16 || s.from == FusedFrom::kBF16 || s.op == FusedOp::kStoreF16 ||
                      s.op == FusedOp::kStoreBF16;
  const std::int64_t size = narrow ? sizeof(std::uint16_t) : sizeof(float);
  return reinterpret_cast<float*>(static_cast<std::byte*>(s.x) + offset_of(s, row, i) * size);
}

// The steps, by what becomes of the accumulator `a` and the mask `m` with the operand `b`.
#define NPU_FUSED_FLOATS(FLOATS)    \
  FLOATS(kLoad, b)                  \
  FLOATS(kAdd, a + b)               \
  FLOATS(kSub, a - b)               \
  FLOATS(kSubFrom, b - a)           \
  FLOATS(kMul, a* b)                \
  FLOATS(kDiv, a / b)               \
  FLOATS(kDivInto, b / a)           \
  FLOATS(kMax, max_of(a, b))        \
  FLOATS(kMin, min_of(a, b))        \
  FLOATS(kWhereSet, m != 0 ? a : b) \
  FLOATS(kWhereElse, m != 0 ? b : a)
#define NPU_FUSED_ALONE(ALONE)                                           \
  ALONE(kSquare, a* a)                                                   \
  ALONE(kNeg, -a)                                                        \
  ALONE(kAbs, absolute(a))                                               \
  ALONE(kSign, a > 0.0f ? all(1.0f) : a < 0.0f ? all(-1.0f) : all(0.0f)) \
  ALONE(kRelu, a < 0.0f ? all(0.0f) : a)                                 \
  ALONE(kReciprocal, 1.0f / a)                                           \
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

// The elements of a group, from i of the row on; `n` of them where that is not said by the type.
template <int kVectors, bool kPart>
void run_group(const FusedStep* steps, int count, std::int64_t row, std::int64_t i, std::int64_t n) {
  Group<kVectors, kPart> g;
  g.n = n;
  for (const FusedStep* s = steps; s < steps + count; ++s) {
    float* const x = place_of(*s, row, i);
    switch (s->op) {
#define NPU_CASE(name, value)                   \
  case FusedOp::name:                           \
    g.each_operand(*s, x, [&](int v, F32 b) {   \
      [[maybe_unused]] const F32 a = g.acc[v];  \
      [[maybe_unused]] const I32 m = g.mask[v]; \
      g.acc[v] = value;                         \
    });                                         \
    break;
      NPU_FUSED_FLOATS(NPU_CASE)
#undef NPU_CASE
#define NPU_CASE(name, value)                   \
  case FusedOp::name:                           \
    NPU_EACH_VECTOR(v) {                        \
      [[maybe_unused]] const F32 a = g.acc[v];  \
      [[maybe_unused]] const I32 m = g.mask[v]; \
      g.acc[v] = value;                         \
    }                                           \
    break;
      NPU_FUSED_ALONE(NPU_CASE)
#undef NPU_CASE
#define NPU_CASE(name, value)                 \
  case FusedOp::name:                         \
    g.each_operand(*s, x, [&](int v, F32 b) { \
      const F32 a = g.acc[v];                 \
      g.mask[v] = value;                      \
    });                                       \
    break;
      NPU_FUSED_TESTS(NPU_CASE)
#undef NPU_CASE
#define NPU_CASE(name, value)                   \
  case FusedOp::name:                           \
    g.each_mask(*s, x, [&](int v, I32 b) {      \
      [[maybe_unused]] const I32 m = g.mask[v]; \
      g.mask[v] = value;                        \
    });                                         \
    break;
      NPU_FUSED_MASKS(NPU_CASE)
#undef NPU_CASE
      case FusedOp::kIsnan:
        NPU_EACH_VECTOR(v) g.mask[v] = g.acc[v] != g.acc[v];
        break;
      case FusedOp::kIsinf:
        NPU_EACH_VECTOR(v) g.mask[v] = absolute(g.acc[v]) == __builtin_inff();
        break;
      case FusedOp::kNot:
        NPU_EACH_VECTOR(v) g.mask[v] = ~g.mask[v];
        break;
      case FusedOp::kSave:
        NPU_EACH_VECTOR(v) g.saved[v] = g.acc[v];
        break;
      case FusedOp::kSaveMask:
        NPU_EACH_VECTOR(v) g.saved_mask[v] = g.mask[v];
        break;
      case FusedOp::kStore:
        g.write(x, g.acc);
        break;
      case FusedOp::kStoreF16:
        g.write16(x, to_f16);
        break;
      case FusedOp::kStoreBF16:
        g.write16(x, to_bf16);
        break;
      case FusedOp::kStoreMask:
        g.write_mask(x);
        break;
      case FusedOp::kLoadBools:
        g.read_bools(static_cast<const std::uint8_t*>(s->x) + offset_of(*s, row, i));
        break;
      case FusedOp::kStoreBools:
        g.write_bools(static_cast<std::uint8_t*>(s->x) + offset_of(*s, row, i));
        break;
    }
  }
}

void fused(const FusedStep* steps, int count, std::int64_t rows, std::int64_t n) {
#if defined(__AVX512F__) || defined(__aarch64__)
  constexpr int kMost = 8;  // of 32 registers
#else
  constexpr int kMost = 4;
#endif
  static_assert(kMost * kLanes <= kFusedGroup);
  for (std::int64_t row = 0; row < rows; ++row) {
    std::int64_t i = 0;
    for (; i + kMost * kLanes <= n; i += kMost * kLanes) run_group<kMost, false>(steps, count, row, i, 0);
    for (; i + 2 * kLanes <= n; i += 2 * kLanes) run_group<2, false>(steps, count, row, i, 0);
    for (; i + kLanes <= n; i += kLanes) run_group<1, false>(steps, count, row, i, 0);
    if (i < n) run_group<1, true>(steps, count, row, i, n - i);
  }
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
