#include "cpu/cpu_device.h"

#include "cpu/micro.h"
#include "cpu/ops/ops.h"
#include "npu/cpu_info.h"

namespace npu::cpu {

namespace {

// In the order of OpKind.
constexpr Made (*kMakers[])(const KernelRequest&) = {
    make_map,           make_copy,    make_conv,    make_matmul, make_attention, make_rope, make_pool,
    make_adaptive_pool, make_norm,    make_softmax, make_reduce, make_scan,      make_sort, make_topk,
    make_gather,        make_scatter, make_iota,    make_resize, make_pad,
};
static_assert(std::size(kMakers) == std::variant_size_v<Attrs>);

class CpuDevice final : public HostDevice {
 public:
  CpuDevice() : name_(query_cpu_info().brand + " (" + micro().name + ")") {}
  const std::string& kind() const override { return kind_; }
  const std::string& name() const override { return name_; }

  std::unique_ptr<HostKernel> make_host_kernel(const KernelRequest& request) const override {
    return kMakers[static_cast<int>(request.op.kind)](request);
  }

  bool wants_channels_last(const Op& op) const override {
    switch (op.kind) {
      case OpKind::kConv:
      case OpKind::kPool:
      case OpKind::kAdaptivePool:
      case OpKind::kResize:
        return true;
      default:
        return false;
    }
  }

 private:
  std::string kind_ = "cpu";
  std::string name_;
};

}  // namespace

std::shared_ptr<const HostDevice> open_device() { return std::make_shared<CpuDevice>(); }

}  // namespace npu::cpu
