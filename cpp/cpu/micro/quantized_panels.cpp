// Words of quantised rows, transposed, as panels of numbers: columns are lanes, so a group's scales are
// vectors.
#include "cpu/micro/quantized.h"
#include "cpu/micro/table.h"

namespace npu::cpu::NPU_ISA {

namespace {

constexpr std::int64_t kColumns = kPanelColumns;

void panel_factors(const PanelFactorsCall& call) {
  const bool has_offsets = call.offset != Quantization::Offset::kNone;
  const float middle = middle_of(call.bits, call.is_signed);
  for (std::int64_t c = 0; c < call.columns; ++c) {
    for (std::int64_t g = 0; g < call.groups; g += kLanes) {
      const std::int64_t n = call.groups - g;
      const F32 scale = typed_at(call.scale_dtype, call.scales, c * call.scale_stride + g, n);
      F32 by = {};
      if (has_offsets) by = typed_at(call.offset_dtype, call.offsets, c * call.offset_stride + g, n);
      const Factors factors = factors_of(call.offset, scale, by, middle);
      store(call.factors + c * call.stride + g, factors.scale);
      store(call.factors + (kColumns + c) * call.stride + g, factors.shift);
    }
  }
}

// Integers of words, minus the middle.
template <int bits>
class Integers {
 public:
  explicit Integers(bool is_signed) {
    const Centred centred(bits, is_signed);
    if constexpr (kLooksUp) {
      for (int i = 0; i < kLanes; ++i) table_[i] = static_cast<float>(centred(i));
    }
    std::uint32_t flip = 0;
    for (int j = 0; j < 32 / bits && !is_signed; ++j) flip |= 1u << (bits * j + bits - 1);
    flip_ = (I32)(flip - U32{});
  }
  I32 ready(I32 words) const { return kLooksUp ? words : words ^ flip_; }
  F32 part(I32 words, int j) const {
    if constexpr (kLooksUp) return lanes_of(table_, (I32)((U32)words >> (4 * j)));
    return __builtin_convertvector((words << (32 - bits * (j + 1))) >> (32 - bits), F32);
  }

 private:
  static constexpr bool kLooksUp = kLanes == 16 && bits == 4;
  F32 table_ = {};
  I32 flip_;
};

struct Floats {
  static constexpr int kTogether = 1;  // elements of a word of the panel
  template <class Number>
  static F32 word(const Number& number, int j) {
    return number(j);
  }
};

#if defined(__AVX512BF16__)
struct Pairs {
  static constexpr int kTogether = 2;
  template <class Number>
  static F32 word(const Number& number, int j) {
    const auto halves = (__m512i)_mm512_cvtne2ps_pbh(number(2 * j + 1), number(2 * j));
    const __m512i across = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23,
                                            7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return (F32)_mm512_maskz_permutexvar_epi16(0xffffffff, across, halves);
  }
};
#endif

template <class Form, int bits>
void unpack(const UnpackCall& call) {
  constexpr int kElements = 32 / bits, kWords = kElements / Form::kTogether;
  const Integers<bits> integers(call.is_signed);
  for (std::int64_t v = 0; v < call.width; v += kLanes) {
    const float* scales = call.scales + v;
    const float* shifts = call.shifts + v;
    F32 scale = load(scales), shift = load(shifts);
    std::int64_t left = call.left;
    float* to = call.to + v;
    for (std::int64_t i = 0; i < call.words; ++i) {
      if (left == 0) {
        scales += kColumns, shifts += kColumns, left = call.group;
        scale = load(scales), shift = load(shifts);
      }
      left -= kElements;
      const I32 words = integers.ready((I32)(load(call.q + i * kColumns + v)));
      const auto number = [&](int j) { return integers.part(words, j) * scale + shift; };
#pragma GCC unroll 8
      for (int j = 0; j < kWords; ++j, to += call.nr) store(to, Form::word(number, j));
    }
  }
}

}  // namespace

void fill_quantized_panels(Micro& micro) {
  micro.panel_factors = panel_factors;
  micro.unpack_fours_f32 = unpack<Floats, 4>;
  micro.unpack_eights_f32 = unpack<Floats, 8>;
#if defined(__AVX512BF16__)
  micro.unpack_fours_pairs = unpack<Pairs, 4>;
  micro.unpack_eights_pairs = unpack<Pairs, 8>;
#endif
}

}  // namespace npu::cpu::NPU_ISA
