// Steps of a plan on the caller's threads.
#include <chrono>
#include <vector>

#include "core/plan/plan.h"

namespace npu {

std::int64_t nanoseconds_now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

namespace {

class HostRunner final : public Runner {
 public:
  explicit HostRunner(const Plan& plan) : plan_(plan), pointers_(plan.operands_at_most) {}

  void run(const RunAddresses& addresses, std::span<StepTime> times) override {
    if (times.empty()) {
      for (const Step& step : plan_.steps) follow(step, addresses);
      return;
    }
    const std::int64_t start = nanoseconds_now();
    for (std::size_t s = 0; s < times.size(); ++s) {
      const std::int64_t before = nanoseconds_now();
      follow(plan_.steps[s], addresses);
      times[s] = {before - start, nanoseconds_now() - before};
    }
  }

  void run_step(const RunAddresses& addresses, std::size_t step) override {
    follow(plan_.steps[step], addresses);
  }

 private:
  void follow(const Step& step, const RunAddresses& addresses) {
    void** at = pointers_.data();
    const auto bind = [&](const std::vector<PlannedOperand>& operands) {
      void** const first = at;
      for (const auto& operand : operands) {
        *at++ = operand.value < 0
                    ? nullptr
                    : addresses.values[static_cast<std::size_t>(operand.value)].data + operand.offset;
      }
      return first;
    };
    void** const inputs = bind(step.inputs);
    void** const outputs = bind(step.outputs);
    const std::byte* const packed =
        step.packed < 0 ? nullptr : addresses.packed[static_cast<std::size_t>(step.packed)].data;
    host_kernel(step).run({inputs, outputs, addresses.scratch.data, packed}, *plan_.pool);
  }

  const Plan& plan_;
  std::vector<void*> pointers_;  // of the step that runs
};

}  // namespace

std::unique_ptr<Runner> HostDevice::make_runner(const Plan& plan) const {
  return std::make_unique<HostRunner>(plan);
}

Buffer HostDevice::allocate(DType dtype, Shape shape, bool zero) const {
  return Buffer::allocate(dtype, std::move(shape), zero);
}

}  // namespace npu
