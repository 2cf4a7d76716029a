// Windows over spatial dimensions: what pool and adaptive_pool share.
#pragma once

#include "core/geometry/window.h"
#include "gpu/ops/launch.h"
#include "gpu/ops/ops.h"

namespace npu::gpu {

struct WindowOptions {
  bool maximum = false, adaptive = false, count_padding = false;
  std::int64_t divisor = 0;  // of an average; 0: the cells that count
};

KernelPtr make_windows(const Request& request, const WindowGeometry& geometry, const WindowOptions& options,
                       const std::string& name);

}  // namespace npu::gpu
