#include "gpu/ops/sort.h"

namespace npu::gpu {

Made make_topk(const Request& r) {
  const auto& attrs = std::get<TopkAttrs>(r.op.attrs);
  const TensorDesc& out = r.outputs[0].present() ? r.outputs[0] : r.outputs[1];
  const std::int64_t count = out.shape.empty() ? 1 : out.shape[static_cast<std::size_t>(attrs.axis)];
  return make_ordered(r, attrs.axis, attrs.largest, count, "topk");
}

}  // namespace npu::gpu
