#include "core/geometry/axis.h"
#include "cpu/ops/sort.h"

namespace npu::cpu {

KernelPtr make_topk(const KernelRequest& request) {
  const auto& attrs = std::get<TopkAttrs>(request.op.attrs);
  const TensorDesc& out = request.outputs[0].present() ? request.outputs[0] : request.outputs[1];
  const std::int64_t count = extent_along(out, attrs.axis);
  return make_ordered(request, attrs.axis, attrs.largest, count, "topk");
}

}  // namespace npu::cpu
