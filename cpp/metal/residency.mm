#include "metal/residency.h"

namespace npu::metal {

#if NPU_SDK_15

namespace {

// The residency set, on systems that have them.
template <class F>
void with_set(const Ref<id<NSObject>>& set, F f) {
  if (!set) return;
  if (@available(macOS 15.0, *)) f(static_cast<id<MTLResidencySet>>(set.get()));
}

}  // namespace

Residency::Residency(id<MTLDevice> device, id<MTLCommandQueue> queue) {
  if (@available(macOS 15.0, *)) {
    auto descriptor = Ref<MTLResidencySetDescriptor*>::adopt([[MTLResidencySetDescriptor alloc] init]);
    auto set = Ref<id<MTLResidencySet>>::adopt([device newResidencySetWithDescriptor:descriptor.get()
                                                                               error:nil]);
    if (!set) return;  // an optimisation: runs work without it
    [queue addResidencySet:set.get()];
    set_ = Ref<id<NSObject>>::share(static_cast<id<NSObject>>(set.get()));
  }
}

Residency::~Residency() {
  with_set(set_, [](auto set) { [set endResidency]; });
}

void Residency::add(id<MTLBuffer> buffer) {
  const std::lock_guard lock(mutex_);
  with_set(set_, [&](auto set) { [set addAllocation:buffer]; });
  changed_ = true;
}

void Residency::remove(id<MTLBuffer> buffer) {
  const std::lock_guard lock(mutex_);
  with_set(set_, [&](auto set) { [set removeAllocation:buffer]; });
  changed_ = true;
}

void Residency::update() {
  const std::lock_guard lock(mutex_);
  if (!std::exchange(changed_, false)) return;
  with_set(set_, [](auto set) {
    [set commit];
    [set requestResidency];
  });
}

#else

Residency::Residency(id<MTLDevice>, id<MTLCommandQueue>) {}
Residency::~Residency() = default;
void Residency::add(id<MTLBuffer>) {}
void Residency::remove(id<MTLBuffer>) {}
void Residency::update() {}

#endif

}  // namespace npu::metal
