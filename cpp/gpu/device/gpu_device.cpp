#include "gpu/device/gpu_device.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "core/base/text.h"
#include "core/plan/plan.h"
#include "gpu/device/gpu_runner.h"
#include "gpu/ops/ops.h"

namespace npu::gpu {

namespace {

#define NPU_MAKER(name, Name) make_##name,
constexpr KernelPtr (*kMakers[])(const Request&) = {NPU_FOR_EACH_OP(NPU_MAKER)};
#undef NPU_MAKER

class GpuDevice final : public DeviceBackend {
 public:
  GpuDevice(std::string kind, std::shared_ptr<Driver> driver, std::shared_ptr<const HostDevice> host)
      : kind_(std::move(kind)), driver_(std::move(driver)), host_(std::move(host)) {}

  const std::string& kind() const override { return kind_; }
  const std::string& name() const override { return driver_->caps().name; }
  // A buffer begins with the lowest element that is reached; some kernels are told where the first one is.
  bool takes(const Op& op, const TensorDesc& operand) const override {
    return info_of(op.kind).negative_strides || std::all_of(operand.strides.begin(), operand.strides.end(),
                                                            [](std::int64_t stride) { return stride >= 0; });
  }

  const HostDevice& host() const override { return *host_; }

  std::unique_ptr<Kernel> make_kernel(const KernelRequest& request) const override {
    return kMakers[static_cast<int>(request.op.kind)](Request{request, driver_->caps()});
  }

  std::unique_ptr<DevicePlan> finish(const Plan& plan) const override {
    return std::make_unique<GpuPlan>(plan, *driver_);
  }

  std::unique_ptr<Runner> make_runner(const Plan& plan) const override {
    return std::make_unique<GpuRunner>(plan, driver_);
  }

  Buffer allocate(DType dtype, Shape shape, bool zero) const override {
    const std::int64_t bytes = tensor_bytes(dtype, shape);
    if (bytes < 0) refuse_memory(dtype, shape);
    auto memory = driver_->allocate(static_cast<std::size_t>(bytes), zero);
    std::byte* const data = memory->data();
    return Buffer::in(std::move(memory), data, dtype, std::move(shape));
  }

  bool reaches(const Buffer& buffer) const override {
    return buffer.memory() != nullptr && buffer.memory()->device() == driver_.get() && aligned(buffer);
  }

  bool unified() const override { return driver_->caps().unified; }

  bool separates() const override { return environment_choice("NPU_SEPARATE_TENSORS", {"0", "1"}) == "1"; }

  DlDevice dl_device() const override { return driver_->dl_device(); }
  std::uintptr_t lender_stream() const override { return driver_->lender_stream(); }
  Buffer borrow(void* data, DType dtype, Shape shape, std::shared_ptr<void> owner) const override {
    const std::int64_t bytes = tensor_bytes(dtype, shape);
    return Buffer::in(driver_->borrow(data, static_cast<std::size_t>(bytes), std::move(owner)), data, dtype,
                      std::move(shape));
  }

  Buffer adopt(const Buffer& buffer) const override {
    if (auto shared = share(buffer)) return shared;
    Buffer copy = allocate(buffer.dtype(), buffer.shape(), false);
    copy.copy_from(buffer);
    return copy;
  }

 private:
  // Kernels read vectors of 16 bytes where shapes and strides let them.
  static bool aligned(const Buffer& buffer) {
    return reinterpret_cast<std::uintptr_t>(buffer.data()) % 16 == 0;
  }

  Buffer share(const Buffer& buffer) const {
    const auto file = buffer.shared_memory();
    if (!file || file->device() != nullptr || !aligned(buffer)) return {};
    auto memory = driver_->share(file);
    if (!memory) return {};
    return Buffer::in(std::move(memory), buffer.data(), buffer.dtype(), buffer.shape());
  }

  std::string kind_;
  std::shared_ptr<Driver> driver_;
  std::shared_ptr<const HostDevice> host_;
};

}  // namespace

std::shared_ptr<const DeviceBackend> make_device(std::string kind, std::shared_ptr<Driver> driver,
                                                 std::shared_ptr<const HostDevice> host) {
  return std::make_shared<GpuDevice>(std::move(kind), std::move(driver), std::move(host));
}

}  // namespace npu::gpu
