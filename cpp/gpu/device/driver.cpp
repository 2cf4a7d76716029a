#include "gpu/device/driver.h"

namespace npu::gpu {

namespace {

class Repeated final : public Recording {
 public:
  Repeated(Driver& driver, const Work& work) : driver_(driver), work_(work) {}

  void run(std::span<const Address> resources, std::span<const bool> skipped,
           std::span<GpuTime> times) override {
    driver_.run({work_, resources, skipped}, times);
  }

 private:
  Driver& driver_;
  Work work_;
};

}  // namespace

std::unique_ptr<Recording> Driver::record(const Work& work) {
  return std::make_unique<Repeated>(*this, work);
}

}  // namespace npu::gpu
