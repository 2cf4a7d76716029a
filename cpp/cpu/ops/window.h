// Windows over spatial dimensions: what pool and adaptive_pool share.
#pragma once

#include <functional>

#include "core/geometry/window.h"
#include "cpu/element.h"
#include "cpu/ops/ops.h"
#include "cpu/strided.h"

namespace npu::cpu {

// The cells of the window at an output position along a dimension.
using Spans = std::function<WindowSpan(std::size_t dim, std::int64_t position)>;

// `divisor` of an average, or 0 for the cells covered by its window.
KernelPtr make_windows(const KernelRequest& request, const WindowGeometry& geometry, const Spans& span,
                       bool maximum, std::int64_t divisor, const char* name);

// The same for images whose rows lie along the memory.
bool rows_fit(const KernelRequest& request, const WindowGeometry& geometry);
KernelPtr make_row_windows(const KernelRequest& request, const WindowGeometry& geometry, const Spans& span,
                           bool maximum, std::int64_t divisor, const char* name);

}  // namespace npu::cpu
