// What tests hand to the makers of GPU kernels.
#pragma once

#include "core/plan/kernel.h"
#include "core/program/shapes.h"
#include "gpu/device/caps.h"

namespace npu::test {

inline TensorDesc tensor(DType dtype, const Shape& shape, Shape strides = {}) {
  TensorDesc desc;
  desc.dtype = dtype;
  desc.shape = shape;
  desc.strides = strides.empty() ? row_major_strides(shape) : strides;
  desc.present_ = true;
  return desc;
}

inline gpu::Caps cores(int count) {
  gpu::Caps caps;
  caps.cores = count;
  return caps;
}

}  // namespace npu::test
