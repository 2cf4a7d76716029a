#include "metal/metal_memory.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "npu/error.h"

namespace npu::metal {

namespace {

// The plan's barriers order all access, so Metal need not track it.
constexpr MTLResourceOptions kOptions = MTLResourceStorageModeShared | MTLResourceHazardTrackingModeUntracked;
constexpr std::size_t kLeast = 16;
constexpr std::size_t kResident = std::size_t{64} << 10;  // smaller blocks come and go too often

}  // namespace

MetalMemory::MetalMemory(const void* device, Ref<id<MTLBuffer>> buffer, std::byte* data, std::size_t bytes,
                         std::shared_ptr<Residency> residency, std::shared_ptr<void> owner)
    : Memory(device, data, bytes),
      buffer_(std::move(buffer)),
      residency_(bytes >= kResident ? std::move(residency) : nullptr),
      owner_(std::move(owner)) {
  if (residency_) residency_->add(buffer_.get());
}

MetalMemory::~MetalMemory() {
  if (residency_) residency_->remove(buffer_.get());
}

Allocator::Allocator(const void* owner, id<MTLDevice> device, std::shared_ptr<Residency> residency)
    : owner_(owner), device_(device), residency_(std::move(residency)) {}

std::shared_ptr<Memory> Allocator::allocate(std::size_t bytes, bool zero) {
  const std::size_t size = std::max(bytes, kLeast);
  Ref<id<MTLBuffer>> buffer;
  if (size <= [device_ maxBufferLength]) {
    buffer = Ref<id<MTLBuffer>>::adopt([device_ newBufferWithLength:size options:kOptions]);
  }
  if (!buffer) {
    throw Error(
        ErrorKind::kUnavailable,
        {.area = "memory",
         .what = "not enough GPU memory",
         .got = std::to_string(bytes) + " bytes",
         .expected = "at most " + std::to_string([device_ maxBufferLength]) + " bytes in one block, " +
                     std::to_string([device_ recommendedMaxWorkingSetSize]) + " in all"});
  }
  auto* const data = static_cast<std::byte*>([buffer.get() contents]);
  if (zero) std::memset(data, 0, size);
  return std::make_shared<MetalMemory>(owner_, std::move(buffer), data, size, residency_, nullptr);
}

std::shared_ptr<Memory> Allocator::share(const std::shared_ptr<Memory>& file) {
  const std::lock_guard lock(mutex_);
  auto& known = shared_[file.get()];
  if (auto memory = known.lock()) return memory;
  const auto page = static_cast<std::size_t>(getpagesize());
  const std::size_t length = (file->bytes() + page - 1) / page * page;  // a mapping ends with a whole page
  if (reinterpret_cast<std::uintptr_t>(file->data()) % page != 0 || length == 0 ||
      length > [device_ maxBufferLength]) {
    shared_.erase(file.get());
    return nullptr;
  }
  auto buffer = Ref<id<MTLBuffer>>::adopt([device_ newBufferWithBytesNoCopy:file->data()
                                                                     length:length
                                                                    options:kOptions
                                                                deallocator:nil]);
  if (!buffer) {
    shared_.erase(file.get());
    return nullptr;
  }
  auto memory =
      std::make_shared<MetalMemory>(owner_, std::move(buffer), file->data(), file->bytes(), residency_, file);
  known = memory;
  return memory;
}

}  // namespace npu::metal
