// The kernels of GPUs: one function per op family, each in the file of that name. They choose a kernel of
// metal/, its grid and its arguments; nothing here runs. Where
// request.fused names ops, null says that these are better launches of their own.
#pragma once

#include <memory>

#include "gpu/plan/gpu_kernel.h"

namespace npu::gpu {

using KernelPtr = std::unique_ptr<GpuKernel>;

#define NPU_DECLARE_MAKER(name, Name) KernelPtr make_##name(const Request& request);
NPU_FOR_EACH_OP(NPU_DECLARE_MAKER)
#undef NPU_DECLARE_MAKER

KernelPtr make_integer_matmul(const Request& request);  // of matmul, where results are integers

}  // namespace npu::gpu
