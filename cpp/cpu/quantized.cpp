#include "cpu/quantized.h"

#include <algorithm>

namespace npu::cpu {

namespace {

std::int64_t step_of(const TensorDesc& x) { return x.present() && x.shape.back() > 1 ? x.strides.back() : 1; }

}  // namespace

QuantizedRows::QuantizedRows(const Quantization& how, std::int64_t depth, const TensorDesc& q,
                             const TensorDesc& scales, const TensorDesc& offsets, const TensorDesc& units)
    : micro_(&micro()),
      how_(how),
      depth_(depth),
      group_(how.group == 0 ? std::max<std::int64_t>(depth, 1) : how.group),
      groups_(how.groups(depth)),
      q_step_(step_of(q)),
      scale_step_(step_of(scales)),
      offset_step_(step_of(offsets)),
      unit_step_(step_of(units)),
      scale_dtype_(scales.dtype),
      offset_dtype_(offsets.present() ? offsets.dtype : scales.dtype),
      unit_dtype_(units.present() ? units.dtype : DType::kFloat32) {}

template <class T>
void QuantizedRows::block(const QuantizedParts& parts, const Row& row, std::int64_t k, std::int64_t n,
                          T* to) const {
  float scales[kDequantized], offsets[kDequantized], units[2 * kDequantized];
  std::uint8_t bytes[kDequantized];
  const std::int64_t first = k / group_, groups = (k + n - 1) / group_ - first + 1;
  // Those that do not follow each other are copied.
  const auto dense = [&](DType& dtype, const void* from, std::int64_t at, std::int64_t step,
                         std::int64_t count, float* buffer) {
    const std::byte* const x = element(from, dtype, at);
    if (step == 1 || count == 1) return static_cast<const void*>(x);
    if (dtype == DType::kInt8) {
      for (std::int64_t i = 0; i < count; ++i) buffer[i] = reinterpret_cast<const std::int8_t*>(x)[i * step];
    } else {
      load_floats(*micro_, dtype, x, step, count, buffer);
    }
    dtype = DType::kFloat32;
    return static_cast<const void*>(buffer);
  };
  DequantizeCall call;
  call.bits = static_cast<int>(how_.bits);
  call.is_signed = how_.is_signed;
  call.offset = how_.offset;
  call.scale_dtype = scale_dtype_;
  call.offset_dtype = offset_dtype_;
  call.scales =
      dense(call.scale_dtype, parts.scales, row.scales + first * scale_step_, scale_step_, groups, scales);
  if (how_.offset != Quantization::Offset::kNone) {
    const std::int64_t at = row.offsets + first * offset_step_;
    call.offsets = dense(call.offset_dtype, parts.offsets, at, offset_step_, groups, offsets);
  }
  if (how_.unit != 0) {
    const std::int64_t of_unit = unit_groups(), unit = first / of_unit, each = how_.unit_parts();
    const std::int64_t count = ((first + groups - 1) / of_unit - unit + 1) * each;
    call.unit_dtype = unit_dtype_;
    call.unit_groups = of_unit;
    call.unit_left = (unit + 1) * of_unit - first;
    call.units =
        dense(call.unit_dtype, parts.units, row.units + unit * each * unit_step_, unit_step_, count, units);
  }
  call.n = n;
  call.group = group_;
  call.left = (first + 1) * group_ - k;
  const std::int64_t begin = k * how_.bits / 8, end = how_.row_bytes(k + n);
  call.bit = k * how_.bits % 8;
  call.q = static_cast<const std::uint8_t*>(parts.q) + row.q + begin * q_step_;
  if (q_step_ != 1) {
    for (std::int64_t i = 0; i < end - begin; ++i) bytes[i] = call.q[i * q_step_];
    call.q = bytes;
  }
  if constexpr (std::is_same_v<T, float>) {
    micro_->dequantize_f32(call, to);
  } else {
    micro_->dequantize_bf16(call, to);
  }
}

void QuantizedRows::numbers(const QuantizedParts& parts, const Row& row, std::int64_t k, std::int64_t n,
                            float* to) const {
  for (std::int64_t i = 0; i < n; i += kDequantized)
    block(parts, row, k + i, std::min(kDequantized, n - i), to + i);
}

void QuantizedRows::numbers(const QuantizedParts& parts, const Row& row, std::int64_t k, std::int64_t n,
                            std::uint16_t* to) const {
  for (std::int64_t i = 0; i < n; i += kDequantized)
    block(parts, row, k + i, std::min(kDequantized, n - i), to + i);
}

}  // namespace npu::cpu
