// The CPU device's kernels: one function per op family, each in the file of that name.
#pragma once

#include <memory>

#include "core/plan/kernel.h"

namespace npu::cpu {

using Made = std::unique_ptr<HostKernel>;

Made make_map(const KernelRequest& request);
Made make_copy(const KernelRequest& request);
Made make_conv(const KernelRequest& request);
Made make_matmul(const KernelRequest& request);
Made make_attention(const KernelRequest& request);
Made make_rope(const KernelRequest& request);
Made make_pool(const KernelRequest& request);
Made make_adaptive_pool(const KernelRequest& request);
Made make_norm(const KernelRequest& request);
Made make_softmax(const KernelRequest& request);
Made make_reduce(const KernelRequest& request);
Made make_scan(const KernelRequest& request);
Made make_sort(const KernelRequest& request);
Made make_topk(const KernelRequest& request);
Made make_gather(const KernelRequest& request);
Made make_scatter(const KernelRequest& request);
Made make_iota(const KernelRequest& request);
Made make_resize(const KernelRequest& request);
Made make_pad(const KernelRequest& request);

}  // namespace npu::cpu
