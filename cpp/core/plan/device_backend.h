// What a device must provide to the core.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "core/base/memory.h"
#include "core/plan/kernel.h"
#include "core/run/runner.h"
#include "npu/buffer.h"

namespace npu {

class HostDevice;
struct PlanSummary;

// What a device adds to a plan, made once for all its sessions.
class DevicePlan {
 public:
  virtual ~DevicePlan() = default;
  virtual std::string text() const { return {}; }
  virtual void summarize(PlanSummary&) const {}
};

class DeviceBackend {
 public:
  virtual ~DeviceBackend() = default;
  virtual const std::string& kind() const = 0;
  virtual const std::string& name() const = 0;
  // Null, or a kernel that takes fewer ops than request.fused names, where these had better be steps of their
  // own; fewer are offered then.
  virtual std::unique_ptr<Kernel> make_kernel(const KernelRequest& request) const = 0;

  // Whether kernels of this op can use an operand or a result with these strides; if not, the plan adds a
  // copy.
  virtual bool takes(const Op&, const TensorDesc&) const { return true; }

  // Whether the kernel of an op that wants channels last is as fast where they are not: in its first operand,
  // and in its result.
  virtual bool takes_planes(const KernelRequest&) const { return false; }
  virtual bool gives_planes(const KernelRequest&) const { return true; }

  // Whether a step finds in a cache what the one before wrote, if it is not much.
  virtual bool has_caches() const { return false; }

  // The device whose kernels prepare weights, in memory of this one.
  virtual const HostDevice& host() const = 0;
  virtual std::unique_ptr<DevicePlan> finish(const Plan& plan) const = 0;
  virtual std::unique_ptr<Runner> make_runner(const Plan& plan) const = 0;

  // Memory for what kernels read and write; not initialised unless `zero`.
  virtual Buffer allocate(DType dtype, Shape shape, bool zero = false) const = 0;
  virtual bool reaches(const Buffer& buffer) const = 0;
  // Whether the host reaches it too.
  virtual bool unified() const { return true; }
  // The same tensor where kernels can reach it, without a copy if possible.
  virtual Buffer adopt(const Buffer& buffer) const = 0;
  // Memory of this device that somebody else allocated. A lender is asked to make `lender_stream` wait for
  // its work; runs wait for that from `borrow` on.
  virtual DlDevice dl_device() const { return {}; }
  virtual std::uintptr_t lender_stream() const { return 0; }
  virtual Buffer borrow(void* /*data*/, DType, Shape, std::shared_ptr<void> /*owner*/) const { return {}; }

  // Whether each intermediate has memory of its own, so that checks see who reaches beyond one.
  virtual bool separates() const { return false; }
};

// One whose kernels run on the caller's threads, in any memory of the process.
class HostDevice : public DeviceBackend {
 public:
  std::unique_ptr<Kernel> make_kernel(const KernelRequest& request) const final {
    return make_host_kernel(request);
  }
  virtual std::unique_ptr<HostKernel> make_host_kernel(const KernelRequest& request) const = 0;
  bool has_caches() const final { return true; }
  const HostDevice& host() const final { return *this; }
  std::unique_ptr<DevicePlan> finish(const Plan&) const final { return nullptr; }
  std::unique_ptr<Runner> make_runner(const Plan& plan) const final;
  Buffer allocate(DType dtype, Shape shape, bool zero) const final;
  bool reaches(const Buffer& buffer) const final { return buffer.on_host(); }
  Buffer adopt(const Buffer& buffer) const final { return buffer.to_host(); }
};

}  // namespace npu
