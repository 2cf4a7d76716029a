// Memory of a GPU, and memory of the host that the GPU reaches.
#pragma once

#include <cstddef>
#include <memory>

#include "core/base/memory.h"
#include "cuda/device/context.h"

namespace npu::cuda {

// Runs of kernels are done when they return, so that every copy finds them done.
class DeviceMemory final : public Memory {
 public:
  DeviceMemory(const void* device, std::shared_ptr<Context> context, CuAddress address, std::size_t bytes)
      : Memory(device, reinterpret_cast<std::byte*>(address), bytes, false), context_(std::move(context)) {}
  ~DeviceMemory() override;

  void read(void* to, const std::byte* from, std::size_t bytes) const override;
  void write(std::byte* to, const void* from, std::size_t bytes) const override;
  void copy(std::byte* to, const Memory& source, const std::byte* from, std::size_t bytes) const override;

 private:
  std::shared_ptr<Context> context_;
};

// One address for both: CUDA gives host memory that of the host.
class PinnedMemory final : public Memory {
 public:
  PinnedMemory(const void* device, std::shared_ptr<Context> context, void* data, std::size_t bytes)
      : Memory(device, static_cast<std::byte*>(data), bytes), context_(std::move(context)) {}
  ~PinnedMemory() override;

 private:
  std::shared_ptr<Context> context_;
};

std::shared_ptr<Memory> allocate_on_device(const void* device, const std::shared_ptr<Context>& context,
                                           std::size_t bytes, bool zero);
std::shared_ptr<Memory> allocate_pinned(const void* device, const std::shared_ptr<Context>& context,
                                        std::size_t bytes);

}  // namespace npu::cuda
