// Operands as tests describe them.
#pragma once

#include "core/plan/kernel.h"
#include "core/program/shapes.h"

namespace npu::test {

inline TensorDesc tensor(DType dtype, const Shape& shape, Shape strides = {}) {
  TensorDesc desc;
  desc.dtype = dtype;
  desc.shape = shape;
  desc.strides = strides.empty() ? row_major_strides(shape) : strides;
  desc.present_ = true;
  return desc;
}

inline TensorDesc desc(const Shape& shape, Shape strides = {}) {
  return tensor(DType::kFloat32, shape, std::move(strides));
}

}  // namespace npu::test
