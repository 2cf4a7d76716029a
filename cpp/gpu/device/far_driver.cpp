#include "gpu/device/far_driver.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "npu/error.h"

namespace npu::gpu {

namespace {

// Addresses without pages, for memory that lies elsewhere.
class FarMemory final : public Memory {
 public:
  FarMemory(const void* device, std::byte* addresses, std::shared_ptr<Memory> actual)
      : Memory(device, addresses, actual->bytes(), false), actual_(std::move(actual)) {}
  ~FarMemory() override { ::munmap(data(), std::max<std::size_t>(bytes(), 1)); }

  Address actual(const std::byte* at) const { return {actual_->data() + (at - data()), actual_.get()}; }

  void read(void* to, const std::byte* from, std::size_t size) const override {
    std::memcpy(to, checked(from, size), size);
  }
  void write(std::byte* to, const void* from, std::size_t size) const override {
    std::memcpy(checked(to, size), from, size);
  }
  void copy(std::byte* to, const Memory& source, const std::byte* from, std::size_t size) const override {
    std::memcpy(checked(to, size), static_cast<const FarMemory&>(source).checked(from, size), size);
  }

 private:
  std::byte* checked(const std::byte* at, std::size_t size) const {
    if (at < data() || size > bytes() || static_cast<std::size_t>(at - data()) > bytes() - size) {
      throw Error(ErrorKind::kInternal,
                  {.area = "memory",
                   .what = "a copy reaches beyond a block of device memory",
                   .got = std::to_string(size) + " bytes from " + std::to_string(at - data()),
                   .expected = "a part of its " + std::to_string(bytes()) + " bytes"});
    }
    return actual(at).data;
  }

  std::shared_ptr<Memory> actual_;
};

class FarDriver final : public Driver {
 public:
  explicit FarDriver(std::shared_ptr<Driver> driver) : driver_(std::move(driver)), caps_(driver_->caps()) {
    caps_.unified = false;
  }

  const Caps& caps() const override { return caps_; }

  std::shared_ptr<Memory> allocate(std::size_t bytes, bool zero) override {
    auto actual = driver_->allocate(bytes, zero);
    void* const addresses = ::mmap(nullptr, std::max<std::size_t>(actual->bytes(), 1), PROT_NONE,
                                   MAP_PRIVATE | MAP_ANON | MAP_NORESERVE, -1, 0);
    if (addresses == MAP_FAILED) {
      throw Error(
          ErrorKind::kUnavailable,
          {.area = "memory", .what = "not enough address space", .got = std::to_string(bytes) + " bytes"});
    }
    return std::make_shared<FarMemory>(this, static_cast<std::byte*>(addresses), std::move(actual));
  }

  std::shared_ptr<Memory> allocate_visible(std::size_t bytes) override {
    return driver_->allocate_visible(bytes);
  }
  std::shared_ptr<Memory> share(const std::shared_ptr<Memory>&) override { return nullptr; }

  std::vector<std::shared_ptr<const Pipeline>> compile(std::span<const PipelineKey> keys) override {
    return driver_->compile(keys);
  }

  void run(const Submission& submission, std::span<GpuTime> times) override {
    std::vector<Address> resources(submission.resources.begin(), submission.resources.end());
    for (Address& address : resources) {
      if (address.memory != nullptr && !address.memory->on_host())
        address = static_cast<const FarMemory&>(*address.memory).actual(address.data);
    }
    driver_->run({submission, resources, submission.skipped}, times);
  }

 private:
  std::shared_ptr<Driver> driver_;
  Caps caps_;
};

}  // namespace

std::shared_ptr<Driver> make_far(std::shared_ptr<Driver> driver) {
  return std::make_shared<FarDriver>(std::move(driver));
}

}  // namespace npu::gpu
