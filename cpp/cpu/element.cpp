#include "cpu/element.h"

namespace npu::cpu {

namespace {

template <class T, class R>
void load_strided(const void* x, std::int64_t stride, std::int64_t n, R* y) {
  const T* from = static_cast<const T*>(x);
  if (stride == 0) {
    const R value = static_cast<R>(n > 0 ? *from : T{});
    for (std::int64_t i = 0; i < n; ++i) y[i] = value;
  } else if (stride == 1) {
    for (std::int64_t i = 0; i < n; ++i) y[i] = static_cast<R>(from[i]);
  } else {
    for (std::int64_t i = 0; i < n; ++i) y[i] = static_cast<R>(from[i * stride]);
  }
}

template <class T, class R>
void store_strided(const R* x, void* y, std::int64_t stride, std::int64_t n) {
  T* to = static_cast<T*>(y);
  if (stride == 1) {
    for (std::int64_t i = 0; i < n; ++i) to[i] = static_cast<T>(x[i]);
  } else {
    for (std::int64_t i = 0; i < n; ++i) to[i * stride] = static_cast<T>(x[i]);
  }
}

}  // namespace

void load_floats(const Micro& micro, DType dtype, const void* x, std::int64_t stride, std::int64_t n,
                 float* y) {
  if (stride == 1 && dtype == DType::kFloat16)
    return micro.load_f16(static_cast<const std::uint16_t*>(x), y, n);
  if (stride == 1 && dtype == DType::kBFloat16)
    return micro.load_bf16(static_cast<const std::uint16_t*>(x), y, n);
  visit_dtype(dtype, [&](auto zero) { load_strided<decltype(zero)>(x, stride, n, y); });
}

void store_floats(const Micro& micro, DType dtype, const float* x, void* y, std::int64_t stride,
                  std::int64_t n) {
  switch (dtype) {
    case DType::kFloat16:
      if (stride == 1) return micro.store_f16(x, static_cast<std::uint16_t*>(y), n);
      return store_strided<Half>(x, y, stride, n);
    case DType::kBFloat16:
      if (stride == 1) return micro.store_bf16(x, static_cast<std::uint16_t*>(y), n);
      return store_strided<BFloat>(x, y, stride, n);
    default:
      return store_strided<float>(x, y, stride, n);
  }
}

void load_integers(DType dtype, const void* x, std::int64_t stride, std::int64_t n, std::int64_t* y) {
  visit_dtype(dtype, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (!kIsFloat<T>) load_strided<T>(x, stride, n, y);
  });
}

void store_integers(DType dtype, const std::int64_t* x, void* y, std::int64_t stride, std::int64_t n) {
  visit_dtype(dtype, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (std::is_same_v<T, bool>) {
      for (std::int64_t i = 0; i < n; ++i) static_cast<std::uint8_t*>(y)[i * stride] = x[i] != 0;
    } else if constexpr (!kIsFloat<T>) {
      store_strided<T>(x, y, stride, n);
    }
  });
}

void load_bools(const void* x, std::int64_t stride, std::int64_t n, std::uint8_t* y) {
  load_strided<std::uint8_t>(x, stride, n, y);
}

void store_bools(const std::uint8_t* x, void* y, std::int64_t stride, std::int64_t n) {
  store_strided<std::uint8_t>(x, y, stride, n);
}

}  // namespace npu::cpu
