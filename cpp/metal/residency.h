// Keeps memory resident for the GPU, on systems that support it (macOS 15).
#pragma once

#import <Metal/Metal.h>

#include <mutex>

#include "metal/object.h"

namespace npu::metal {

class Residency {
 public:
  Residency(id<MTLDevice> device, id<MTLCommandQueue> queue);
  ~Residency();
  void add(id<MTLBuffer> buffer);
  void remove(id<MTLBuffer> buffer);
  void update();  // before a run: what was added and removed takes effect

 private:
  Ref<id<NSObject>> set_;  // an MTLResidencySet; none on older systems
  std::mutex mutex_;
  [[maybe_unused]] bool changed_ = false;
};

}  // namespace npu::metal
