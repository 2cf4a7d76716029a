#include "core/geometry/axis.h"
#include "gpu/ops/sort.h"

namespace npu::gpu {

KernelPtr make_topk(const Request& r) {
  const auto& attrs = std::get<TopkAttrs>(r.op.attrs);
  const TensorDesc& out = r.outputs[0].present() ? r.outputs[0] : r.outputs[1];
  const std::int64_t count = extent_along(out, attrs.axis);
  return make_ordered(r, attrs.axis, attrs.largest, count, "topk");
}

}  // namespace npu::gpu
