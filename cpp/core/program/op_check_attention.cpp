#include <cmath>

#include "core/program/op_rules.gen.h"

namespace npu {

void check_attention(const OpCheck& c, const AttentionAttrs& attrs) {
  const Operand &q = c.in(0), &k = c.in(1), &v = c.in(2), &mask = c.in(3);
  c.need_float(q, "q");
  c.need(c.rank(q) == 4 && c.rank(k) == 4 && c.rank(v) == 4, "'q', 'k' and 'v' of rank 4");
  c.need(k.shape[1] > 0 && q.shape[1] % k.shape[1] == 0,
         "a number of 'q' heads that is a multiple of the 'k' heads");
  c.need_shape(k, {q.shape[0], k.shape[1], k.shape[2], q.shape[3]}, "k");
  c.need_shape(v, {q.shape[0], k.shape[1], k.shape[2], v.shape[3]}, "v");
  c.need_shape(c.out(), {q.shape[0], q.shape[1], q.shape[2], v.shape[3]}, "out");
  const Operand &key_scales = c.in(4), &value_scales = c.in(5);
  c.need(key_scales.present() == value_scales.present(), "'key_scales' and 'value_scales', or neither");
  for (const Operand* scales : {&key_scales, &value_scales}) {
    if (!scales->present()) continue;
    c.need_shape(*scales, {q.shape[0], k.shape[1], k.shape[2]}, "key_scales and value_scales");
    c.need_dtype(*scales, DType::kFloat32, "key_scales and value_scales");
  }
  for (const Operand* rows : {&k, &v})
    c.need_dtype(*rows, key_scales.present() ? DType::kInt8 : c.dtype(q), "k and v");
  c.need_dtype(c.out(), c.dtype(q), "out");
  c.need(std::isfinite(attrs.scale), "a finite scale");
  if (!mask.present()) return;
  c.need_shape(mask, {q.shape[0], q.shape[1], q.shape[2], k.shape[2]}, "mask");
  const DType dtype = c.dtype(mask);
  c.need(dtype == DType::kBool || dtype == DType::kFloat32 || dtype == c.dtype(q),
         "a mask of bool, of float32 or of the dtype of 'q'");
  c.need(!attrs.causal, "a mask, or 'causal', not both");
}

void check_rope(const OpCheck& c, const RopeAttrs&) {
  const Operand &x = c.in(0), &cos = c.in(1), &key = c.in(3), &value = c.in(4), &keys = c.in(5),
                &values = c.in(6), &index = c.in(7);
  const auto need_like = [&](const Operand& operand, const Shape& shape, const char* name) {
    c.need_shape(operand, shape, name);
    c.need_dtype(operand, c.dtype(x), name);
  };
  c.need_float(x, "x");
  c.need(c.rank(x) == 4, "'x' of rank 4");
  need_like(c.out(), x.shape, "out");
  c.need(c.rank(cos) == 4 && cos.shape[3] % 2 == 0 && cos.shape[3] <= x.shape[3],
         "an even number of rotated elements, at most those of 'x'");
  for (const std::size_t i : {std::size_t{1}, std::size_t{2}}) {
    c.need_shape(c.in(i), {x.shape[0], 1, x.shape[2], cos.shape[3]}, "cos and sin");
    const DType dtype = c.dtype(c.in(i));
    c.need(dtype == DType::kFloat32 || dtype == c.dtype(x),
           "'cos' and 'sin' of float32 or of the dtype of 'x'");
  }
  c.need(key.present() == c.out(1).present(), "'key' and 'key_out', or neither");
  if (key.present())
    need_like(key, {x.shape[0], key.shape.size() > 1 ? key.shape[1] : 0, x.shape[2], x.shape[3]}, "key");
  c.need(value.present() == values.present() && value.present() == c.out(2).present(),
         "'value', 'value_cache' and 'value_out', or none of them");
  c.need(!keys.present() || key.present(), "a 'key' for the 'key_cache'");
  c.need(!values.present() || keys.present(), "a 'key_cache' beside the 'value_cache'");
  c.need(index.present() == keys.present(), "an 'index' for caches, and for these alone");
  if (!key.present()) return;
  if (!keys.present()) return need_like(c.out(1), key.shape, "key_out");
  c.need(c.rank(keys) == 4, "a 'key_cache' of rank 4");
  need_like(keys, {key.shape[0], key.shape[1], keys.shape[2], key.shape[3]}, "key_cache");
  need_like(c.out(1), keys.shape, "key_out");
  c.need_shape(index, {x.shape[2]}, "index");
  c.need_dtype(index, DType::kInt64, "index");
  if (!value.present()) return;
  c.need(c.rank(value) == 4, "a 'value' of rank 4");
  need_like(value, {key.shape[0], key.shape[1], key.shape[2], value.shape[3]}, "value");
  need_like(values, {key.shape[0], key.shape[1], keys.shape[2], value.shape[3]}, "value_cache");
  need_like(c.out(2), values.shape, "value_out");
}

}  // namespace npu
