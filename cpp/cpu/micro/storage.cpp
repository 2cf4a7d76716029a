// Elements as they are stored, to and from registers of float32, int64 and bool.
#include "cpu/micro/half.h"
#include "cpu/micro/table.h"

namespace npu::cpu::NPU_ISA {

namespace {

template <class T, class R>
inline void load_row(const void* x, std::int64_t stride, std::int64_t n, R* y) {
  const T* from = static_cast<const T*>(x);
  if (stride == 1) {
    for (std::int64_t i = 0; i < n; ++i) y[i] = static_cast<R>(from[i]);
  } else if (stride == 0) {
    const R value = n > 0 ? static_cast<R>(*from) : R{};
    for (std::int64_t i = 0; i < n; ++i) y[i] = value;
  } else {
    for (std::int64_t i = 0; i < n; ++i) y[i] = static_cast<R>(from[i * stride]);
  }
}

template <class T, class R>
inline void store_row(const R* x, void* y, std::int64_t stride, std::int64_t n) {
  T* to = static_cast<T*>(y);
  if (stride == 1) {
    for (std::int64_t i = 0; i < n; ++i) to[i] = static_cast<T>(x[i]);
  } else {
    for (std::int64_t i = 0; i < n; ++i) to[i * stride] = static_cast<T>(x[i]);
  }
}

// 16-bit floats that do not lie next to each other, a vector at a time.
template <F32 (*convert)(U16)>
inline void load_half(const void* x, std::int64_t stride, std::int64_t n, float* y) {
  const auto* from = static_cast<const std::uint16_t*>(x);
  if (stride == 0 && n > 0) {
    const float value = convert(U16{} + *from)[0];
    for (std::int64_t i = 0; i < n; ++i) y[i] = value;
    return;
  }
  for (std::int64_t i = 0; i < n; i += kLanes) {
    const std::int64_t m = n - i < kLanes ? n - i : kLanes;
    U16 part = {};
    for (std::int64_t j = 0; j < m; ++j) part[j] = from[(i + j) * stride];
    if (m == kLanes) {
      store(y + i, convert(part));
    } else {
      store_part(y + i, convert(part), m);
    }
  }
}

template <U16 (*convert)(F32)>
inline void store_half(const float* x, void* y, std::int64_t stride, std::int64_t n) {
  auto* to = static_cast<std::uint16_t*>(y);
  for (std::int64_t i = 0; i < n; i += kLanes) {
    const std::int64_t m = n - i < kLanes ? n - i : kLanes;
    const U16 part = convert(m == kLanes ? load(x + i) : load_part(x + i, m));
    for (std::int64_t j = 0; j < m; ++j) to[(i + j) * stride] = part[j];
  }
}

template <class R>
inline void load_whole(DType dtype, const void* x, std::int64_t stride, std::int64_t n, R* y) {
  switch (dtype) {
    case DType::kInt8:
      return load_row<std::int8_t>(x, stride, n, y);
    case DType::kInt16:
      return load_row<std::int16_t>(x, stride, n, y);
    case DType::kInt32:
      return load_row<std::int32_t>(x, stride, n, y);
    case DType::kInt64:
      return load_row<std::int64_t>(x, stride, n, y);
    default:
      return load_row<std::uint8_t>(x, stride, n, y);
  }
}

void load_floats(DType dtype, const void* x, std::int64_t stride, std::int64_t n, float* y) {
  switch (dtype) {
    case DType::kFloat32:
      return load_row<float>(x, stride, n, y);
    case DType::kFloat16:
      return load_half<from_f16>(x, stride, n, y);
    case DType::kBFloat16:
      return load_half<from_bf16>(x, stride, n, y);
    default:
      return load_whole(dtype, x, stride, n, y);
  }
}

void store_floats(DType dtype, const float* x, void* y, std::int64_t stride, std::int64_t n) {
  switch (dtype) {
    case DType::kFloat16:
      return store_half<to_f16>(x, y, stride, n);
    case DType::kBFloat16:
      return store_half<to_bf16>(x, y, stride, n);
    default:
      return store_row<float>(x, y, stride, n);
  }
}

void load_integers(DType dtype, const void* x, std::int64_t stride, std::int64_t n, std::int64_t* y) {
  load_whole(dtype, x, stride, n, y);
}

void store_integers(DType dtype, const std::int64_t* x, void* y, std::int64_t stride, std::int64_t n) {
  switch (dtype) {
    case DType::kInt8:
    case DType::kUInt8:
      return store_row<std::uint8_t>(x, y, stride, n);
    case DType::kInt16:
      return store_row<std::int16_t>(x, y, stride, n);
    case DType::kInt32:
      return store_row<std::int32_t>(x, y, stride, n);
    case DType::kInt64:
      return store_row<std::int64_t>(x, y, stride, n);
    default:
      for (std::int64_t i = 0; i < n; ++i) static_cast<std::uint8_t*>(y)[i * stride] = x[i] != 0;
  }
}

}  // namespace

void fill_storage(Micro& micro) {
  micro.load_floats = load_floats;
  micro.store_floats = store_floats;
  micro.load_integers = load_integers;
  micro.store_integers = store_integers;
}

}  // namespace npu::cpu::NPU_ISA
