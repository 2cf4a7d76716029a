// Buffers that GPU and CPU share.
#pragma once

#import <Metal/Metal.h>

#include <map>
#include <memory>
#include <mutex>

#include "core/base/memory.h"
#include "metal/object.h"
#include "metal/residency.h"

namespace npu::metal {

class MetalMemory final : public Memory {
 public:
  MetalMemory(const void* device, Ref<id<MTLBuffer>> buffer, std::byte* data, std::size_t bytes,
              std::shared_ptr<Residency> residency, std::shared_ptr<void> owner);
  ~MetalMemory() override;
  id<MTLBuffer> buffer() const { return buffer_.get(); }

 private:
  Ref<id<MTLBuffer>> buffer_;
  std::shared_ptr<Residency> residency_;  // null: not worth it
  std::shared_ptr<void> owner_;           // of the pages, when they are somebody else's
};

class Allocator {
 public:
  Allocator(const void* owner, id<MTLDevice> device, std::shared_ptr<Residency> residency);

  std::shared_ptr<Memory> allocate(std::size_t bytes, bool zero);
  // The pages of a mapped file; null when Metal cannot take them as they are.
  std::shared_ptr<Memory> share(const std::shared_ptr<Memory>& file);

 private:
  const void* owner_;
  id<MTLDevice> device_;
  std::shared_ptr<Residency> residency_;
  std::mutex mutex_;
  std::map<const Memory*, std::weak_ptr<Memory>> shared_;  // by file
};

}  // namespace npu::metal
