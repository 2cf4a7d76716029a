#include "core/program/op_rules.gen.h"
#include "core/program/quantization.h"
#include "core/program/shapes.h"

namespace npu {

void OpCheck::need_quantized(const Quantization& how, const std::array<std::size_t, 3>& operands,
                             const Shape& shape, const char* name) const {
  const std::int64_t bits = how.bits, depth = shape.back();
  need(bits == 2 || bits == 3 || bits == 4 || bits == 6 || bits == 8, "2, 3, 4, 6 or 8 bits");
  need(how.group >= 0, "a group of at least 0 elements");
  const Operand &q = in(operands[0]), &scales = in(operands[1]), &offsets = in(operands[2]);
  need(scales.present(), "'scales' of a quantised operand");
  need(offsets.present() == (how.offset != Quantization::Offset::kNone),
       "'offsets' unless 'offset' is none, and only then");
  Shape stored = shape, groups = shape;
  stored.back() = how.row_bytes(depth);
  groups.back() = how.groups(depth);
  need_shape(q, stored, name);
  need_dtype(q, DType::kUInt8, name);
  need_shape(scales, groups, "scales");
  need_float(scales, "scales");
  if (!offsets.present()) return;
  need_shape(offsets, groups, "offsets");
  need_float(offsets, "offsets");
}

void check_dequantize(const OpCheck& c, const DequantizeAttrs& attrs) {
  c.need(c.rank(c.out()) >= 1, "'out' of at least one dimension");
  c.need_float(c.out(), "out");
  c.need_quantized(quantization_of(attrs), {0, 1, 2}, c.out().shape, "q");
}

}  // namespace npu
