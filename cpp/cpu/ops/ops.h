// The CPU device's kernels: one function per op family, each in the file of that name.
#pragma once

#include <memory>

#include "core/plan/kernel.h"

namespace npu::cpu {

using KernelPtr = std::unique_ptr<HostKernel>;

#define NPU_DECLARE_MAKER(name, Name) KernelPtr make_##name(const KernelRequest& request);
NPU_FOR_EACH_OP(NPU_DECLARE_MAKER)
#undef NPU_DECLARE_MAKER

}  // namespace npu::cpu
