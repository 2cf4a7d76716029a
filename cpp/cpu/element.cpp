#include "cpu/element.h"

#include "cpu/strided.h"

namespace npu::cpu {

void load_floats(const Micro& micro, DType dtype, const void* x, std::int64_t stride, std::int64_t n,
                 float* y) {
  if (stride == 1 && dtype == DType::kFloat16)
    return micro.load_f16(static_cast<const std::uint16_t*>(x), y, n);
  if (stride == 1 && dtype == DType::kBFloat16)
    return micro.load_bf16(static_cast<const std::uint16_t*>(x), y, n);
  micro.load_floats(dtype, x, stride, n, y);
}

void store_floats(const Micro& micro, DType dtype, const float* x, void* y, std::int64_t stride,
                  std::int64_t n) {
  if (stride == 1 && dtype == DType::kFloat16) return micro.store_f16(x, static_cast<std::uint16_t*>(y), n);
  if (stride == 1 && dtype == DType::kBFloat16) return micro.store_bf16(x, static_cast<std::uint16_t*>(y), n);
  micro.store_floats(dtype, x, y, stride, n);
}

void load_integers(DType dtype, const void* x, std::int64_t stride, std::int64_t n, std::int64_t* y) {
  micro().load_integers(dtype, x, stride, n, y);
}

void store_integers(DType dtype, const std::int64_t* x, void* y, std::int64_t stride, std::int64_t n) {
  micro().store_integers(dtype, x, y, stride, n);
}

void load_bools(const void* x, std::int64_t stride, std::int64_t n, std::uint8_t* y) {
  copy_row(reinterpret_cast<std::byte*>(y), 1, static_cast<const std::byte*>(x), stride, n, 1);
}

void store_bools(const std::uint8_t* x, void* y, std::int64_t stride, std::int64_t n) {
  copy_row(static_cast<std::byte*>(y), stride, reinterpret_cast<const std::byte*>(x), 1, n, 1);
}

}  // namespace npu::cpu
