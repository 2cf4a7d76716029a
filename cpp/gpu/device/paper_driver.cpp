#include "gpu/device/paper_driver.h"

#include <utility>

#include "npu/error.h"

namespace npu::gpu {

namespace {

class PaperDriver final : public Driver {
 public:
  explicit PaperDriver(Caps caps) : caps_(std::move(caps)) { caps_.name += " (on paper)"; }

  const Caps& caps() const override { return caps_; }
  std::shared_ptr<Memory> allocate(std::size_t, bool) override { refuse(); }
  std::shared_ptr<Memory> share(const std::shared_ptr<Memory>&) override { return nullptr; }
  std::vector<std::shared_ptr<const Pipeline>> compile(std::span<const PipelineKey> keys) override {
    return std::vector<std::shared_ptr<const Pipeline>>(keys.size());
  }
  void run(const Submission&, std::span<GpuTime>) override { refuse(); }

 private:
  [[noreturn]] void refuse() const {
    throw Error(ErrorKind::kUnavailable, {.area = "device",
                                          .what = "the " + caps_.name + " is not a device of this machine",
                                          .expected = "a plan to look at: nothing runs on it"});
  }

  Caps caps_;
};

}  // namespace

std::shared_ptr<Driver> open_paper(Caps caps) { return std::make_shared<PaperDriver>(std::move(caps)); }

}  // namespace npu::gpu
