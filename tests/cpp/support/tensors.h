// Tensors of tests: float32 data with any strides, and requests built by hand.
#pragma once

#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "core/machine/thread_pool.h"
#include "core/plan/kernel.h"
#include "core/plan/layout.h"
#include "npu/buffer.h"

namespace npu::test {

struct Tensor {
  TensorDesc desc;
  std::vector<float> data;  // of which the view starts at `start`
  std::int64_t start = 0;

  float* first() { return data.data() + start; }

  // Calls f(index, element) in row-major order of the shape.
  template <class F>
  void each(F&& f) {
    Shape at(desc.shape.size(), 0);
    std::int64_t left = desc.elements();
    while (left-- > 0) {
      std::int64_t offset = start;
      for (std::size_t d = 0; d < at.size(); ++d) offset += at[d] * desc.strides[d];
      f(at, data[static_cast<std::size_t>(offset)]);
      for (std::size_t d = at.size(); d-- > 0;) {
        if (++at[d] < desc.shape[d]) break;
        at[d] = 0;
      }
    }
  }

  float at(const Shape& index) const {
    std::int64_t offset = start;
    for (std::size_t d = 0; d < index.size(); ++d) offset += index[d] * desc.strides[d];
    return data[static_cast<std::size_t>(offset)];
  }
};

inline Tensor make_tensor(Shape shape, Layout layout = Layout::kRowMajor, unsigned seed = 1,
                          bool constant = false) {
  Tensor t;
  t.desc.present_ = true;
  t.desc.constant = constant;
  t.desc.strides = dense_strides(shape, layout);
  t.desc.shape = std::move(shape);
  t.data.resize(static_cast<std::size_t>(t.desc.elements()));
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> values(-1, 1);
  for (float& x : t.data) x = values(random);
  return t;
}

// Packs what the kernel wants packed, and runs it.
inline void run_kernel(const HostKernel& kernel, std::vector<Tensor*> inputs, std::vector<Tensor*> outputs,
                       ThreadPool& pool) {
  std::vector<const void*> in;
  std::vector<void*> out;
  for (Tensor* t : inputs) in.push_back(t ? t->first() : nullptr);
  for (Tensor* t : outputs) out.push_back(t ? t->first() : nullptr);
  Buffer scratch = Buffer::allocate(DType::kUInt8, {static_cast<std::int64_t>(kernel.scratch_bytes())});
  Buffer packed;
  if (kernel.packed_input() >= 0) {
    packed = Buffer::allocate(DType::kUInt8, {static_cast<std::int64_t>(kernel.packed_bytes())});
    auto& raw = in[static_cast<std::size_t>(kernel.packed_input())];
    kernel.pack(raw, static_cast<std::byte*>(packed.data()), pool);
    raw = nullptr;  // run() must not read it
  }
  kernel.run({in.data(), out.data(), static_cast<std::byte*>(scratch.data()),
              static_cast<std::byte*>(packed.data())},
             pool);
}

// |got - want| / |want| of the whole.
struct Difference {
  double squares = 0, wanted = 0;
  void add(double got, double want) {
    squares += (got - want) * (got - want);
    wanted += want * want;
  }
  double relative() const { return wanted > 0 ? squares / wanted : squares; }  // squared
};

}  // namespace npu::test
