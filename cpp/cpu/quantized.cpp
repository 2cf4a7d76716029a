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

namespace {

constexpr std::int64_t kLeastUnpacked = 16;                               // elements of a group
constexpr std::int64_t kMostGroups = kDequantized / kLeastUnpacked + 16;  // in whole vectors, and parts

using Unpack = void (*)(const UnpackCall&);
Unpack unpack_of(const Micro& micro, std::int64_t bits, bool pairs) {
  if (bits == 4) return pairs ? micro.unpack_fours_pairs : micro.unpack_fours_f32;
  return pairs ? micro.unpack_eights_pairs : micro.unpack_eights_f32;
}

}  // namespace

bool QuantizedRows::unpacks(bool pairs, std::int64_t k, std::int64_t n) const {
  if ((how_.bits != 4 && how_.bits != 8) || how_.unit != 0 || !dense()) return false;
  const std::int64_t word = 32 / how_.bits;
  const bool whole_groups = groups_ == 1 || (group_ % word == 0 && group_ >= kLeastUnpacked);
  return whole_groups && k % word == 0 && n % word == 0 && k + n <= depth_ && n <= kDequantized &&
         unpack_of(*micro_, how_.bits, pairs) != nullptr;
}

void QuantizedRows::unpack(const QuantizedParts& parts, const Row& first, const Row& step, bool pairs,
                           std::int64_t k, std::int64_t n, const Panel& panel) const {
  float columns[2 * kPanelColumns * kMostGroups], factors[2 * kMostGroups * kPanelColumns];
  float words[kDequantized / 4 * kPanelColumns];
  const std::int64_t group = k / group_, groups = (k + n - 1) / group_ - group + 1;
  PanelFactorsCall of;
  of.bits = static_cast<int>(how_.bits);
  of.is_signed = how_.is_signed;
  of.offset = how_.offset;
  of.scale_dtype = scale_dtype_;
  of.offset_dtype = offset_dtype_;
  of.scales = element(parts.scales, scale_dtype_, first.scales + group);
  of.scale_stride = step.scales;
  if (how_.offset != Quantization::Offset::kNone) {
    of.offsets = element(parts.offsets, offset_dtype_, first.offsets + group);
    of.offset_stride = step.offsets;
  }
  of.columns = panel.count;
  of.groups = groups;
  of.factors = columns;
  of.stride = kMostGroups;
  micro_->panel_factors(of);
  const auto across = [&](const void* rows, std::int64_t stride, std::int64_t length, float* to) {
    micro_->transpose_words(rows, stride, panel.count, length, to, kPanelColumns, kPanelColumns);
  };
  constexpr std::int64_t kStride = kMostGroups * static_cast<std::int64_t>(sizeof(float));
  float* const shifts = factors + kMostGroups * kPanelColumns;
  across(columns, kStride, groups, factors);
  across(columns + kPanelColumns * kMostGroups, kStride, groups, shifts);
  UnpackCall call;
  call.is_signed = how_.is_signed;
  call.words = n * how_.bits / 32;
  across(static_cast<const std::uint8_t*>(parts.q) + first.q + k * how_.bits / 8, step.q, call.words, words);
  call.q = words;
  call.width = panel.width;
  call.scales = factors;
  call.shifts = shifts;
  call.left = (group + 1) * group_ - k;
  call.group = group_;
  call.to = panel.to;
  call.nr = panel.nr;
  unpack_of(*micro_, how_.bits, pairs)(call);
}

}  // namespace npu::cpu
