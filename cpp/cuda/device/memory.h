// Memory of a GPU, and memory of the host that the GPU reaches.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <utility>

#include "core/base/memory.h"
#include "cuda/device/context.h"

namespace npu::cuda {

// Writes and copies are queued; runs, reads and later copies come after them. Runs are done when they return.
class GpuMemory : public Memory {
 public:
  GpuMemory(const void* device, std::shared_ptr<Context> context, CuAddress address, std::size_t bytes,
            bool lent = false)
      : Memory(device, reinterpret_cast<std::byte*>(address), bytes, false),
        context_(std::move(context)),
        lent_(lent) {}

  void read(void* to, const std::byte* from, std::size_t bytes) const override;
  void read_all(std::span<const MemoryRead> reads) const override;
  void write(std::byte* to, const void* from, std::size_t bytes) const override;
  void copy(std::byte* to, const Memory& source, const std::byte* from, std::size_t bytes) const override;

  DlDevice dl_device() const override { return {kDlCuda, context_->ordinal()}; }
  void lend() const override;

 protected:
  Context& context() const { return *context_; }

 private:
  void settle(bool shared) const;

  std::shared_ptr<Context> context_;
  mutable std::atomic<bool> lent_;  // others use it in streams of theirs, so that nothing stays queued
};

class DeviceMemory final : public GpuMemory {
 public:
  // `room`: what was allocated, for `bytes`.
  DeviceMemory(const void* device, std::shared_ptr<Context> context, CuAddress address, std::size_t bytes,
               std::size_t room);
  ~DeviceMemory() override;

 private:
  std::size_t room_;
};

// That of somebody else, whom `owner` keeps from freeing it.
class ForeignMemory final : public GpuMemory {
 public:
  ForeignMemory(const void* device, std::shared_ptr<Context> context, CuAddress address, std::size_t bytes,
                std::shared_ptr<void> owner)
      : GpuMemory(device, std::move(context), address, bytes, true), owner_(std::move(owner)) {}
  ~ForeignMemory() override;

 private:
  std::shared_ptr<void> owner_;
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
