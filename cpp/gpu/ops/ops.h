// The kernels of GPUs: one function per op family, each in the file of that name. They choose a kernel of
// metal/, its grid and its arguments; nothing here runs.
#pragma once

#include <memory>

#include "gpu/plan/gpu_kernel.h"

namespace npu::gpu {

using Made = std::unique_ptr<GpuKernel>;

Made make_map(const Request& request);
Made make_copy(const Request& request);
Made make_conv(const Request& request);
Made make_matmul(const Request& request);
Made make_normed_matmul(const Request& request);  // request.norm on the way; null: better as two kernels
Made make_attention(const Request& request);
Made make_rope(const Request& request);
Made make_pool(const Request& request);
Made make_adaptive_pool(const Request& request);
Made make_norm(const Request& request);
Made make_softmax(const Request& request);
Made make_reduce(const Request& request);
Made make_scan(const Request& request);
Made make_sort(const Request& request);
Made make_topk(const Request& request);
Made make_gather(const Request& request);
Made make_scatter(const Request& request);
Made make_iota(const Request& request);
Made make_resize(const Request& request);
Made make_pad(const Request& request);

}  // namespace npu::gpu
