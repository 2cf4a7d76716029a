// Products of integer matrices, and integers folded into columns.
#include "cpu/micro/table.h"
#include "cpu/micro/vec.h"

namespace npu::cpu::NPU_ISA {

namespace {

constexpr int kRows = 4;  // of the result at a time; with two vectors of columns their sums fit the registers

// Of unsigned words, which wrap.
template <class T>
struct Words {
  static constexpr std::int64_t kCount = kLanes * 4 / static_cast<std::int64_t>(sizeof(T));
  typedef T Vector __attribute__((vector_size(kLanes * 4)));
  static Vector load(const T* p) {
    Vector v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
  }
  static void store(T* p, Vector v) { __builtin_memcpy(p, &v, sizeof v); }
};

template <class T, int rows, int vectors>
inline void multiply_block(const IntegerProduct<T>& p, std::int64_t row, std::int64_t column) {
  using W = Words<T>;
  typename W::Vector sums[rows][vectors];
  T* const y = p.y + row * p.y_stride + column;
  for (int r = 0; r < rows; ++r) {
    for (int v = 0; v < vectors; ++v) sums[r][v] = W::load(y + r * p.y_stride + v * W::kCount);
  }
  const T *a = p.a + row * p.a_stride, *b = p.b + column;
  for (std::int64_t k = 0; k < p.depth; ++k, ++a, b += p.b_stride) {
    for (int v = 0; v < vectors; ++v) {
      const typename W::Vector x = W::load(b + v * W::kCount);
      for (int r = 0; r < rows; ++r) sums[r][v] += a[r * p.a_stride] * x;
    }
  }
  for (int r = 0; r < rows; ++r) {
    for (int v = 0; v < vectors; ++v) W::store(y + r * p.y_stride + v * W::kCount, sums[r][v]);
  }
}

template <class T, int rows>
inline void multiply_rows(const IntegerProduct<T>& p, std::int64_t row) {
  constexpr std::int64_t kCount = Words<T>::kCount;
  std::int64_t j = 0;
  for (; j + 2 * kCount <= p.columns; j += 2 * kCount) multiply_block<T, rows, 2>(p, row, j);
  for (; j + kCount <= p.columns; j += kCount) multiply_block<T, rows, 1>(p, row, j);
  for (int r = 0; r < rows && j < p.columns; ++r) {
    const T* const a = p.a + (row + r) * p.a_stride;
    T* const y = p.y + (row + r) * p.y_stride;
    for (std::int64_t c = j; c < p.columns; ++c) {
      T sum = y[c];
      for (std::int64_t k = 0; k < p.depth; ++k) sum = static_cast<T>(sum + a[k] * p.b[k * p.b_stride + c]);
      y[c] = sum;
    }
  }
}

template <class T>
void multiply(const IntegerProduct<T>& p) {
  std::int64_t row = 0;
  for (; row + kRows <= p.rows; row += kRows) multiply_rows<T, kRows>(p, row);
  for (; row < p.rows; ++row) multiply_rows<T, 1>(p, row);
}

template <class X, class T>
inline T dot_of(const void* x, const T* y, std::int64_t n) {
  const X* const from = static_cast<const X*>(x);
  T sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum = static_cast<T>(sum + static_cast<T>(from[i]) * y[i]);
  return sum;
}

template <class T>
T dot(DType dtype, const void* x, const T* y, std::int64_t n) {
  switch (dtype) {
    case DType::kInt8:
      return dot_of<std::int8_t>(x, y, n);
    case DType::kInt16:
      return dot_of<std::int16_t>(x, y, n);
    case DType::kInt32:
      return dot_of<std::int32_t>(x, y, n);
    case DType::kInt64:
      return dot_of<std::int64_t>(x, y, n);
    default:
      return dot_of<std::uint8_t>(x, y, n);
  }
}

template <class T>
inline void fold_elements(ExprOp op, const void* x, std::int64_t* total, std::int64_t n) {
  using U = std::uint64_t;
  const auto each_element = [&](auto f) {
    const T* const from = static_cast<const T*>(x);
    for (std::int64_t i = 0; i < n; ++i) total[i] = f(total[i], static_cast<std::int64_t>(from[i]));
  };
  if (op == ExprOp::kMax) {
    each_element([](std::int64_t a, std::int64_t b) { return a > b ? a : b; });
  } else if (op == ExprOp::kMin) {
    each_element([](std::int64_t a, std::int64_t b) { return a < b ? a : b; });
  } else {
    each_element([](std::int64_t a, std::int64_t b) {
      return static_cast<std::int64_t>(static_cast<U>(a) + static_cast<U>(b));
    });
  }
}

void fold_row(ExprOp op, DType dtype, const void* x, std::int64_t* total, std::int64_t n) {
  switch (dtype) {
    case DType::kInt8:
      return fold_elements<std::int8_t>(op, x, total, n);
    case DType::kInt16:
      return fold_elements<std::int16_t>(op, x, total, n);
    case DType::kInt32:
      return fold_elements<std::int32_t>(op, x, total, n);
    case DType::kInt64:
      return fold_elements<std::int64_t>(op, x, total, n);
    default:
      return fold_elements<std::uint8_t>(op, x, total, n);
  }
}

}  // namespace

void fill_integers(Micro& micro) {
  micro.fold_row = fold_row;
  micro.words_16 = {multiply<std::uint16_t>, dot<std::uint16_t>};
  micro.words_32 = {multiply<std::uint32_t>, dot<std::uint32_t>};
  micro.words_64 = {multiply<std::uint64_t>, dot<std::uint64_t>};
}

}  // namespace npu::cpu::NPU_ISA
