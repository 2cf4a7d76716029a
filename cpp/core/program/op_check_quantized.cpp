#include "core/program/op_rules.gen.h"
#include "core/program/quantization.h"
#include "core/program/shapes.h"

namespace npu {

void OpCheck::need_quantized(const Quantization& how, const std::array<std::size_t, 4>& operands,
                             const Shape& shape, const char* name) const {
  const std::int64_t bits = how.bits, depth = shape.back();
  need(bits == 2 || bits == 3 || bits == 4 || bits == 6 || bits == 8, "2, 3, 4, 6 or 8 bits");
  need(how.group >= 0, "a group of at least 0 elements");
  need(how.unit == 0 || (how.unit > 0 && how.group > 0 && how.unit % how.group == 0),
       "a unit of whole groups");
  const Operand &q = in(operands[0]), &scales = in(operands[1]), &offsets = in(operands[2]);
  const Operand& units = in(operands[3]);
  need(scales.present(), "'scales' of a quantised operand");
  need(offsets.present() == (how.offset != Quantization::Offset::kNone),
       "'offsets' unless 'offset' is none, and only then");
  need(units.present() == (how.unit != 0), "'units' unless 'unit' is 0, and only then");
  Shape stored = shape, groups = shape, of_units = shape;
  stored.back() = how.row_bytes(depth);
  groups.back() = how.groups(depth);
  of_units.back() = how.units(depth);
  const auto need_numbers = [&](const Operand& x, const char* what) {
    need_shape(x, groups, what);
    if (how.unit == 0) return need_float(x, what);
    need_dtype(x, DType::kInt8, what);
  };
  need_shape(q, stored, name);
  need_dtype(q, DType::kUInt8, name);
  need_numbers(scales, "scales");
  if (offsets.present()) need_numbers(offsets, "offsets");
  if (!units.present()) return;
  need_shape(units, of_units, "units");
  need_float(units, "units");
}

void check_dequantize(const OpCheck& c, const DequantizeAttrs& attrs) {
  c.need(c.rank(c.out()) >= 1, "'out' of at least one dimension");
  c.need_float(c.out(), "out");
  c.need_quantized(quantization_of(attrs), {0, 1, 2, 3}, c.out().shape, "q");
}

}  // namespace npu
