// Places chosen by index operands: what gather and scatter share.
#pragma once

#include "gpu/ops/launch.h"

namespace npu::gpu {

// Strides of `other`, the indexed operand, for the dimensions of the positions that index it; 0 along others.
Shape place_strides(const Shape& positions, const TensorDesc& other, const std::vector<std::int64_t>& dims);

// What kernels are told of the axes; steps are counted in words of `word` bytes.
void fill_axes(IndexedAxis* axes, const Request& request, const TensorDesc& other,
               const std::vector<std::int64_t>& indexed, int first_index, std::size_t word);

// Their strides, in elements.
Shape axis_steps(const TensorDesc& other, const std::vector<std::int64_t>& indexed);

// Whether the indices are the same throughout an inner row of a nest in which they follow two operands.
bool whole_rows(const Nest& nest);

// Binds status and indices as metal/indexed.h has them.
void bind_indices(Dispatch& launch, const Request& request, std::size_t axes, int first_index, bool wrap);

}  // namespace npu::gpu
