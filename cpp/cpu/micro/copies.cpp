// Elements moved as they are, and where indices say that they lie.
#include <cstddef>
#include <cstring>

#include "cpu/micro/table.h"

namespace npu::cpu::NPU_ISA {

namespace {

template <class T>
void copy_elements(const void* x, std::int64_t x_step, void* y, std::int64_t y_step, std::int64_t n) {
  const T* const from = static_cast<const T*>(x);
  T* const to = static_cast<T*>(y);
  if (x_step == 0 && y_step == 1 && *from == 0) {
    std::memset(to, 0, static_cast<std::size_t>(n) * sizeof(T));
  } else if (x_step == 0 && y_step == 1) {
    const T value = *from;
    for (std::int64_t i = 0; i < n; ++i) to[i] = value;
  } else if (x_step == 0) {
    const T value = *from;
    for (std::int64_t i = 0; i < n; ++i) to[i * y_step] = value;
  } else if (y_step == 1 && x_step == -1) {
    for (std::int64_t i = 0; i < n; ++i) to[i] = from[-i];
  } else if (y_step == 1) {
    for (std::int64_t i = 0; i < n; ++i) to[i] = from[i * x_step];
  } else {
    for (std::int64_t i = 0; i < n; ++i) to[i * y_step] = from[i * x_step];
  }
}

void copy_strided(std::size_t size, const void* x, std::int64_t x_step, void* y, std::int64_t y_step,
                  std::int64_t n) {
  switch (size) {
    case 1:
      return copy_elements<std::uint8_t>(x, x_step, y, y_step, n);
    case 2:
      return copy_elements<std::uint16_t>(x, x_step, y, y_step, n);
    case 4:
      return copy_elements<std::uint32_t>(x, x_step, y, y_step, n);
    default:
      return copy_elements<std::uint64_t>(x, x_step, y, y_step, n);
  }
}

template <class T, bool start, bool next_to_each_other>
bool offsets_of(const IndexOffsets& call) {
  using Word = std::uint64_t;   // of what indices outside give, nothing is promised
  const IndexOffsets c = call;  // where no store can change it
  const T* const x = static_cast<const T*>(c.indices);
  std::int64_t* const to = c.offsets;
  const std::int64_t low = c.wrap ? -c.extent : 0, high = c.extent;
  const auto first = static_cast<Word>(c.start), step = static_cast<Word>(c.step);
  const auto stride = static_cast<Word>(c.stride);
  std::int64_t outside = 0;
  for (std::int64_t i = 0; i < c.n; ++i) {
    const auto index = static_cast<std::int64_t>(x[next_to_each_other ? i : i * c.index_step]);
    outside |= static_cast<std::int64_t>(index < low) | static_cast<std::int64_t>(index >= high);
    const Word offset = static_cast<Word>(index < 0 ? index + high : index) * stride;
    to[i] = static_cast<std::int64_t>(
        offset + (start ? first + static_cast<Word>(i) * step : static_cast<Word>(to[i])));
  }
  return outside == 0;
}

template <class T, bool start>
bool offsets_of(const IndexOffsets& c) {
  return c.index_step == 1 ? offsets_of<T, start, true>(c) : offsets_of<T, start, false>(c);
}

template <bool start>
bool index_offsets(const IndexOffsets& c) {
  switch (c.dtype) {
    case DType::kInt8:
      return offsets_of<std::int8_t, start>(c);
    case DType::kInt16:
      return offsets_of<std::int16_t, start>(c);
    case DType::kInt32:
      return offsets_of<std::int32_t, start>(c);
    case DType::kInt64:
      return offsets_of<std::int64_t, start>(c);
    default:
      return offsets_of<std::uint8_t, start>(c);
  }
}

}  // namespace

void fill_copies(Micro& micro) {
  micro.copy_strided = copy_strided;
  micro.start_offsets = index_offsets<true>;
  micro.add_offsets = index_offsets<false>;
}

}  // namespace npu::cpu::NPU_ISA
