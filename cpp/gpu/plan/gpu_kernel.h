// A kernel of a GPU: launches in order. Those of one kernel run one after the other where they depend on each
// other; the schedule sees that from the bytes they touch.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/geometry/nest.h"
#include "core/plan/kernel.h"
#include "gpu/device/caps.h"
#include "gpu/plan/dispatch.h"

namespace npu::gpu {

class GpuKernel : public Kernel {
 public:
  explicit GpuKernel(std::string name) : name_(std::move(name)) {}
  std::string name() const override { return name_; }
  std::size_t scratch_bytes() const override { return scratch_; }
  std::size_t fused_ops() const override { return fused_; }
  double flops() const override { return flops_; }
  double bytes() const override { return bytes_; }

  const std::vector<Dispatch>& dispatches() const { return dispatches_; }  // none: there is nothing to do

  // For makers. Scratch is counted in bytes and rounded up here; `bytes` 0 is the sum of the operands.
  Dispatch& add(Dispatch dispatch) { return dispatches_.emplace_back(std::move(dispatch)); }
  std::vector<Dispatch>& edit() { return dispatches_; }
  void set_scratch(std::int64_t bytes) { scratch_ = (static_cast<std::size_t>(bytes) + 255) / 256 * 256; }
  void set_fused(std::size_t ops) { fused_ = ops; }
  void set_cost(double flops, double bytes = 0) {
    flops_ = flops;
    bytes_ = bytes;
  }

 private:
  std::string name_;
  std::vector<Dispatch> dispatches_;
  std::size_t scratch_ = 0, fused_ = 0;
  double flops_ = 0, bytes_ = 0;
};

// An op to make a kernel for, on a GPU with these abilities.
struct Request : KernelRequest {
  const Caps& caps;
};

std::string_view msl_type(DType dtype);                           // "half"
std::string function_name(std::string_view kernel, DType dtype);  // "softmax_simd_half"

inline std::uint32_t ceil_div(std::int64_t a, std::int64_t b) {
  return static_cast<std::uint32_t>((a + b - 1) / b);
}

// Throws: this variant has no kernel; `why` says what is special.
[[noreturn]] void unavailable(const Op& op, const std::string& why);

}  // namespace npu::gpu
