// DLPack's C exchange interface: a library's tensors, both ways, without Python objects in between.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "npu/npu.h"

namespace npu::bindings {

struct ExchangeApi;

// A tensor in the host's memory; strides are in bytes.
struct HostTensor {
  void* data = nullptr;
  DType dtype = DType::kFloat32;
  std::vector<std::int64_t> shape, strides;
};

// What a type of tensors offers through `__dlpack_c_exchange_api__`.
class Exchange {
 public:
  // Nothing if the type itself offers no version that we know. What a subclass inherits may not be true of
  // it.
  static std::optional<Exchange> of(nanobind::handle type);

  // Nothing for what programs cannot read as it lies; `__dlpack__` knows more ways, and says what is wrong.
  // Valid for as long as the tensor is held.
  std::optional<HostTensor> view(nanobind::handle tensor) const;

  // A tensor of the library in the buffer's memory, which the host reaches.
  nanobind::object tensor_of(const Buffer& buffer) const;

 private:
  Exchange(const ExchangeApi* api, nanobind::object is_neg) : api_(api), is_neg_(std::move(is_neg)) {}
  static std::optional<Exchange> look_up(nanobind::handle type);

  const ExchangeApi* api_;   // lives as long as the process
  nanobind::object is_neg_;  // a method of PyTorch's tensors, or null
};

}  // namespace npu::bindings
