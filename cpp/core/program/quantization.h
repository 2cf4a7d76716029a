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
  std::int64_t unit = 0;  // elements of a row whose scales and offsets are multiples of one unit; 0: none are

  std::int64_t groups(std::int64_t depth) const {
    return group == 0 || depth == 0 ? 1 : (depth + group - 1) / group;
  }
  // The units of a place: that of scales, and that of offsets.
  std::int64_t unit_parts() const { return offset == Offset::kNone ? 1 : 2; }
  std::int64_t units(std::int64_t depth) const {
    return unit == 0 ? 0 : (depth + unit - 1) / unit * unit_parts();
  }
  std::int64_t row_bytes(std::int64_t depth) const { return (depth * bits + 7) / 8; }
};

// Of MatmulAttrs and DequantizeAttrs.
template <class A>
Quantization quantization_of(const A& attrs) {
  return {attrs.bits, attrs.group, static_cast<Quantization::Offset>(attrs.offset), attrs.signed_integers,
          attrs.unit};
}

}  // namespace npu
