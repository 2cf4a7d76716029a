// DLPack, both ways, with the device that the memory is on.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "bindings/tensors.h"
#include "core/base/memory.h"

namespace npu::bindings {

std::optional<DType> dtype_from_dlpack(nanobind::dlpack::dtype dtype);
nanobind::dlpack::dtype dlpack_dtype(DType dtype);

// Whether kernels can read it where it is; strides are in bytes.
bool is_dense(const void* data, const std::vector<std::int64_t>& shape,
              const std::vector<std::int64_t>& strides, std::size_t size);

// Where a tensor says that it is; nothing for what is no tensor of DLPack.
std::optional<DlDevice> dl_device_of(nanobind::handle tensor);

// A tensor in memory of a GPU, without a copy if it is dense. The lender makes its work come before ours.
struct GpuTensor {
  Device device;
  Buffer buffer;
  bool copied = false;
};
// `target` is where it is wanted, if that is known; tensors of other devices are refused.
GpuTensor borrow_from_gpu(nanobind::handle tensor, DlDevice where, const char* name, const Device* target);

nanobind::object to_dlpack(nanobind::handle self, const nanobind::kwargs& options);
nanobind::tuple dlpack_device(const PyBuffer& buffer);

}  // namespace npu::bindings
