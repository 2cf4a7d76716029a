#include "cpu/quantized.h"

#include <algorithm>

namespace npu::cpu {

namespace {

constexpr std::int64_t kBlock = 2 * kPackedK;  // elements: what a panel has of a column, in pairs

std::int64_t step_of(const TensorDesc& x) { return x.present() && x.shape.back() > 1 ? x.strides.back() : 1; }

}  // namespace

QuantizedRows::QuantizedRows(const Quantization& how, std::int64_t depth, const TensorDesc& q,
                             const TensorDesc& scales, const TensorDesc& offsets)
    : micro_(&micro()),
      how_(how),
      depth_(depth),
      group_(how.group == 0 ? std::max<std::int64_t>(depth, 1) : how.group),
      groups_(how.groups(depth)),
      q_step_(step_of(q)),
      scale_step_(step_of(scales)),
      offset_step_(step_of(offsets)),
      scale_dtype_(scales.dtype),
      offset_dtype_(offsets.present() ? offsets.dtype : scales.dtype) {}

void QuantizedRows::factors(const QuantizedParts& parts, const Row& row, std::int64_t first, std::int64_t n,
                            float* scales, float* shifts) const {
  load_floats(*micro_, scale_dtype_, element(parts.scales, scale_dtype_, row.scales + first * scale_step_),
              scale_step_, n, scales);
  const auto middle = how_.is_signed ? 0.0f : static_cast<float>(std::int64_t{1} << (how_.bits - 1));
  if (how_.offset == Quantization::Offset::kNone) {
    for (std::int64_t g = 0; g < n; ++g) shifts[g] = scales[g] * middle;
    return;
  }
  load_floats(*micro_, offset_dtype_,
              element(parts.offsets, offset_dtype_, row.offsets + first * offset_step_), offset_step_, n,
              shifts);
  if (how_.offset == Quantization::Offset::kPoint) {
    for (std::int64_t g = 0; g < n; ++g) shifts[g] = scales[g] * (middle - shifts[g]);
  } else {
    for (std::int64_t g = 0; g < n; ++g) shifts[g] += scales[g] * middle;
  }
}

template <class T>
void QuantizedRows::block(const QuantizedParts& parts, const Row& row, std::int64_t k, std::int64_t n,
                          T* to) const {
  float scales[kBlock], shifts[kBlock];
  std::uint8_t bytes[kBlock];
  const std::int64_t first = k / group_, last = (k + n - 1) / group_;
  factors(parts, row, first, last - first + 1, scales, shifts);
  DequantizeCall call;
  call.bits = static_cast<int>(how_.bits);
  call.is_signed = how_.is_signed;
  call.n = n;
  call.group = group_;
  call.left = (first + 1) * group_ - k;
  call.scales = scales;
  call.shifts = shifts;
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
  for (std::int64_t i = 0; i < n; i += kBlock) block(parts, row, k + i, std::min(kBlock, n - i), to + i);
}

void QuantizedRows::numbers(const QuantizedParts& parts, const Row& row, std::int64_t k, std::int64_t n,
                            std::uint16_t* to) const {
  for (std::int64_t i = 0; i < n; i += kBlock) block(parts, row, k + i, std::min(kBlock, n - i), to + i);
}

}  // namespace npu::cpu
