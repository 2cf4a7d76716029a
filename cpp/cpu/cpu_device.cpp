#include "cpu/cpu_device.h"

#include "cpu/micro.h"
#include "cpu/ops/conv.h"
#include "cpu/ops/ops.h"
#include "npu/cpu_info.h"

namespace npu::cpu {

namespace {

#define NPU_MAKER(name, Name) make_##name,
constexpr KernelPtr (*kMakers[])(const KernelRequest&) = {NPU_FOR_EACH_OP(NPU_MAKER)};
#undef NPU_MAKER

class CpuDevice final : public HostDevice {
 public:
  CpuDevice() : name_(query_cpu_info().brand + " (" + micro().name + ")") {}
  const std::string& kind() const override { return kind_; }
  const std::string& name() const override { return name_; }

  std::unique_ptr<HostKernel> make_host_kernel(const KernelRequest& request) const override {
    if (!request.fused.empty() && request.op.kind != OpKind::kReduce) return nullptr;
    return kMakers[static_cast<int>(request.op.kind)](request);
  }
  bool takes_planes(const KernelRequest& request) const override {
    return request.op.kind == OpKind::kConv && reads_planes(request);
  }
  bool gives_planes(const KernelRequest& request) const override {
    return request.op.kind != OpKind::kConv || writes_planes(request);
  }

 private:
  std::string kind_ = "cpu";
  std::string name_;
};

}  // namespace

std::shared_ptr<const HostDevice> open_device() { return std::make_shared<CpuDevice>(); }

}  // namespace npu::cpu
