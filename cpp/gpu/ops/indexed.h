// Elements chosen by index operands: what gather and scatter share.
#pragma once

#include "core/geometry/indexed.h"
#include "gpu/ops/launch.h"

namespace npu::gpu {

// The axes as kernels read them, for an operand that is moved in words of `word` bytes.
void fill_axes(IndexedAxis* args, const std::vector<IndexAxis>& axes, DType dtype, std::size_t word);

// Their strides in the indexed operand, in elements.
Shape axis_strides(const std::vector<IndexAxis>& axes);

// Binds status and indices as metal/indexed.h has them.
void bind_indices(Dispatch& launch, const Request& request, std::size_t axes, int first_index, bool wrap);

}  // namespace npu::gpu
