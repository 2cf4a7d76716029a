// Tensors in any layout, and kernels made by hand, for the tests of the CPU kernels.
#pragma once

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include "core/machine/thread_pool.h"
#include "cpu/element.h"
#include "cpu/micro.h"
#include "cpu/ops/ops.h"
#include "npu/error.h"
#include "support/check.h"

namespace npu::test {

// Apart from the float32 tensors of tensors.h, which some tests of the same program use.
inline namespace any_dtype {

using cpu::BFloat;
using cpu::Half;

inline std::int64_t count(const Shape& shape) {
  std::int64_t n = 1;
  for (const auto d : shape) n *= d;
  return n;
}

inline Shape row_major(const Shape& shape) {
  Shape strides(shape.size());
  std::int64_t step = 1;
  for (std::size_t d = shape.size(); d-- > 0; step *= shape[d]) strides[d] = step;
  return strides;
}

enum class Layout { kDense, kChannelsLast, kReversed, kBackwards, kSpaced };
inline constexpr Layout kLayouts[] = {Layout::kDense, Layout::kChannelsLast, Layout::kReversed,
                                      Layout::kBackwards, Layout::kSpaced};

// Calls f(index) for every index of a shape, in row-major order.
inline void for_each(const Shape& shape, const std::function<void(const Shape&)>& f) {
  Shape index(shape.size(), 0);
  for (std::int64_t i = 0, n = count(shape); i < n; ++i) {
    f(index);
    for (std::size_t d = shape.size(); d-- > 0;) {
      if (++index[d] < shape[d]) break;
      index[d] = 0;
    }
  }
}

struct Tensor {
  DType dtype;
  Shape shape, strides;
  std::int64_t offset = 0;
  std::vector<std::byte> data;

  Tensor() : dtype(DType::kFloat32) {}
  Tensor(DType type, Shape extents, Layout layout = Layout::kDense) : dtype(type), shape(std::move(extents)) {
    strides = row_major(shape);
    std::int64_t room = count(shape);
    const std::size_t rank = shape.size();
    if (layout == Layout::kChannelsLast && rank > 2) {
      Shape moved = {shape[0]};
      moved.insert(moved.end(), shape.begin() + 2, shape.end());
      moved.push_back(shape[1]);
      const Shape s = row_major(moved);
      strides[0] = s[0];
      strides[1] = 1;
      for (std::size_t d = 2; d < rank; ++d) strides[d] = s[d - 1];
    } else if (layout == Layout::kReversed) {
      const Shape s = row_major(Shape(shape.rbegin(), shape.rend()));
      strides = Shape(s.rbegin(), s.rend());
    } else if (layout == Layout::kBackwards) {
      for (std::size_t d = 0; d < rank; ++d) {
        offset += (shape[d] > 0 ? shape[d] - 1 : 0) * strides[d];
        strides[d] = -strides[d];
      }
    } else if (layout == Layout::kSpaced) {
      for (auto& s : strides) s *= 3;
      room *= 3;
    }
    data.resize(static_cast<std::size_t>(room) * size_of(dtype));  // exact, so that sanitizers see overruns
  }

  std::size_t where(const Shape& index) const {
    std::int64_t at = offset;
    for (std::size_t d = 0; d < index.size(); ++d) at += index[d] * strides[d];
    return static_cast<std::size_t>(at) * size_of(dtype);
  }
  double get(const Shape& index) const {
    return cpu::visit_dtype(dtype, [&](auto value) {
      std::memcpy(&value, data.data() + where(index), sizeof value);
      if constexpr (cpu::kIsFloat<decltype(value)>) return static_cast<double>(static_cast<float>(value));
      return static_cast<double>(value);
    });
  }
  void set(const Shape& index, double number) {
    cpu::visit_dtype(dtype, [&](auto value) {
      using T = decltype(value);
      if constexpr (cpu::kIsFloat<T>) {
        value = T(static_cast<float>(number));
      } else if constexpr (std::is_same_v<T, bool>) {
        value = number != 0;
      } else {
        value = static_cast<T>(static_cast<std::int64_t>(number));
      }
      std::memcpy(data.data() + where(index), &value, sizeof value);
    });
  }
  void* first() { return data.data() + static_cast<std::size_t>(offset) * size_of(dtype); }
  Tensor expanded(const Shape& wider) const {  // broadcast, from the right
    Tensor view = *this;
    view.shape = wider;
    view.strides.assign(wider.size(), 0);
    for (std::size_t d = 0; d < shape.size(); ++d) {
      view.strides[wider.size() - shape.size() + d] = shape[d] == 1 ? 0 : strides[d];
    }
    return view;
  }
};

// Numbers in [-3, 3] with fractions, or small integers; the same for every run.
inline Tensor random(DType dtype, const Shape& shape, Layout layout = Layout::kDense,
                     std::uint64_t seed = 1) {
  Tensor t(dtype, shape, layout);
  std::uint64_t state = seed * 0x9e3779b97f4a7c15ull + 12345;
  for_each(shape, [&](const Shape& index) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    const double u = static_cast<double>(state >> 40) / 16777216.0;
    t.set(index, is_float(dtype)         ? 6 * u - 3
                 : dtype == DType::kBool ? (u > 0.5)
                                         : std::floor(u * 21) - (dtype == DType::kUInt8 ? 0 : 10));
  });
  return t;
}

using Maker = cpu::KernelPtr (*)(const KernelRequest&);

inline TensorDesc describe(const Tensor* t) {
  TensorDesc desc;
  if (t == nullptr) return desc;
  desc.dtype = t->dtype;
  desc.shape = t->shape;
  desc.strides = t->strides;
  desc.present_ = true;
  return desc;
}

// Makes a kernel and runs it once; null operands are absent.
inline void run_op(Maker make, OpKind kind, const Attrs& attrs, const std::vector<Tensor*>& inputs,
                   const std::vector<Tensor*>& outputs, int threads = 1) {
  Op op;
  op.kind = kind;
  op.name = "tested";
  op.attrs = attrs;
  KernelRequest request{op, {}, {}, threads};
  std::vector<const void*> in;
  std::vector<void*> out;
  for (Tensor* t : inputs) {
    request.inputs.push_back(describe(t));
    in.push_back(t == nullptr ? nullptr : t->first());
  }
  for (Tensor* t : outputs) {
    request.outputs.push_back(describe(t));
    out.push_back(t == nullptr ? nullptr : t->first());
  }
  const auto kernel = make(request);
  std::vector<std::byte> room(kernel->scratch_bytes() + 64);
  void* aligned = room.data();
  std::size_t space = room.size();
  std::align(64, kernel->scratch_bytes(), aligned, space);
  ThreadPool pool(threads);
  kernel->run({in.data(), out.data(), static_cast<std::byte*>(aligned), nullptr}, pool);
}

inline double epsilon(DType dtype) {
  return dtype == DType::kFloat32    ? 1e-6
         : dtype == DType::kFloat16  ? 1e-3
         : dtype == DType::kBFloat16 ? 8e-3
                                     : 0;
}

inline bool close(double a, double b, double relative, double absolute) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
  if (a == b) return true;
  return std::fabs(a - b) <= absolute + relative * std::fabs(b);
}

// Compares every element with expected(index); says where the first difference is.
inline void check_tensor(const Tensor& t, const std::function<double(const Shape&)>& expected,
                         const char* file, int line, double tolerance = 1) {
  bool failed = false;
  for_each(t.shape, [&](const Shape& index) {
    if (failed) return;
    const double got = t.get(index), want = expected(index), eps = tolerance * epsilon(t.dtype);
    if (close(got, want, eps, eps)) return;
    failed = true;
    std::ostringstream text;
    text.precision(9);
    text << cpu::micro().name << ", " << static_cast<int>(t.dtype) << ": at";
    for (const auto i : index) text << " " << i;
    text << " got " << got << ", expected " << want;
    report_failure(file, line, text.str());
  });
}
#define CHECK_TENSOR(t, expected, ...) \
  npu::test::check_tensor(t, expected, __FILE__, __LINE__ __VA_OPT__(, ) __VA_ARGS__)

// Runs the test once for each instruction set.
inline void on_every_isa(const std::function<void()>& body) {
  const auto names = cpu::available_micros();
  for (const auto& name : names) {
    cpu::select_micro(name);
    body();
  }
  cpu::select_micro(names.front());
}

// Steps of an expression, for tests.
inline ExprStep in(int k, char type = 'f') { return {.op = ExprOp::kIn, .operand = k, .type = type}; }
inline ExprStep constant(double v, char type = 'f') {
  return {.op = ExprOp::kConst, .number = v, .integer = static_cast<std::int64_t>(v), .type = type};
}
inline ExprStep cast_to(int a, DType dtype) {
  const char type = is_float(dtype) ? 'f' : dtype == DType::kBool ? 'b' : 'i';
  return {.op = ExprOp::kCast, .args = {a, -1, -1}, .dtype = dtype, .type = type};
}
inline ExprStep step(ExprOp op, char type, int a, int b = -1, int c = -1) {
  return {.op = op, .args = {a, b, c}, .type = type};
}

}  // namespace any_dtype

}  // namespace npu::test
