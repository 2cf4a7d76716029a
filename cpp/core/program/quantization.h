// How the integers of a quantised weight are stored, as the attributes of an op say it.
#pragma once

#include <cstdint>

namespace npu {

struct Quantization {
  enum class Offset : std::uint8_t { kNone, kPoint, kBias };
  std::int64_t bits = 8;
  std::int64_t group = 0;  // elements of a row that share a scale; 0: all
  Offset offset = Offset::kNone;
  bool is_signed = false;

  std::int64_t groups(std::int64_t depth) const {
    return group == 0 || depth == 0 ? 1 : (depth + group - 1) / group;
  }
  std::int64_t row_bytes(std::int64_t depth) const { return (depth * bits + 7) / 8; }
};

// Of MatmulAttrs and DequantizeAttrs.
template <class A>
Quantization quantization_of(const A& attrs) {
  return {attrs.bits, attrs.group, static_cast<Quantization::Offset>(attrs.offset), attrs.signed_integers};
}

}  // namespace npu
