// What integers of quantised rows are, and the scales and offsets of their groups.
#pragma once

#include "cpu/micro.h"
#include "cpu/micro/half.h"

namespace npu::cpu::NPU_ISA {

namespace {

// What an integer of `bits` bits is, minus the middle: two's complement is the unsigned integer with its
// highest bit flipped, minus the middle.
struct Centred {
  std::int32_t flip, middle;
  Centred(int bits, bool is_signed) : flip(is_signed ? 1 << (bits - 1) : 0), middle(1 << (bits - 1)) {}
  template <class I>
  I operator()(I x) const {
    return (x ^ flip) - middle;
  }
};

inline F32 typed_at(DType dtype, const void* from, std::int64_t at, std::int64_t n) {
  if (dtype == DType::kFloat32) {
    const float* const x = static_cast<const float*>(from) + at;
    return n >= kLanes ? load(x) : load_part(x, n);
  }
  const std::uint16_t* const x = static_cast<const std::uint16_t*>(from) + at;
  const U16 halves = n >= kLanes ? load16(x) : load16_part(x, n);
  return dtype == DType::kFloat16 ? from_f16(halves) : from_bf16(halves);
}

// What the numbers of kLanes groups, or of the first n of them, are: scale * (integer - middle) + shift.
struct Factors {
  F32 scale, shift;
};
inline Factors factors_at(Quantization::Offset offset, DType scale_dtype, const void* scales,
                          std::int64_t scale_at, DType offset_dtype, const void* offsets,
                          std::int64_t offset_at, float middle, std::int64_t n) {
  const F32 scale = typed_at(scale_dtype, scales, scale_at, n);
  if (offset == Quantization::Offset::kNone) return {scale, scale * middle};
  const F32 by = typed_at(offset_dtype, offsets, offset_at, n);
  return {scale, offset == Quantization::Offset::kBias ? scale * middle + by : scale * (middle - by)};
}
inline float middle_of(int bits, bool is_signed) {
  return is_signed ? 0.0f : static_cast<float>(1 << (bits - 1));
}

}  // namespace

}  // namespace npu::cpu::NPU_ISA
