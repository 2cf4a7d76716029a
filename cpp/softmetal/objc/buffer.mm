// Buffers and residency sets.
#import "objc/objects.h"

using softmetal::Kind;
using softmetal::refuse;

@implementation SMBuffer

- (id)initWithDevice:(SMDevice*)device
              buffer:(std::shared_ptr<softmetal::Buffer>)buffer
             options:(MTLResourceOptions)options {
  if ((self = [super initWithDevice:device kind:Kind::buffer])) {
    _buffer = new std::shared_ptr<softmetal::Buffer>(std::move(buffer));
    _options = options;
  }
  return self;
}

- (void)dealloc {
  delete _buffer;
  [super dealloc];
}

- (NSUInteger)length {
  return (*_buffer)->length();
}
- (NSUInteger)allocatedSize {
  return (*_buffer)->length();
}
- (uint64_t)gpuAddress {
  return reinterpret_cast<uint64_t>((*_buffer)->data());
}
- (void*)contents {
  return [self storageMode] == MTLStorageModePrivate ? nullptr : (*_buffer)->data();
}
- (MTLCPUCacheMode)cpuCacheMode {
  return static_cast<MTLCPUCacheMode>(_options & 0xf);
}
- (MTLStorageMode)storageMode {
  return static_cast<MTLStorageMode>((_options >> 4) & 0xf);
}
- (MTLHazardTrackingMode)hazardTrackingMode {
  auto mode = static_cast<MTLHazardTrackingMode>((_options >> 8) & 3);
  return mode == MTLHazardTrackingModeDefault ? MTLHazardTrackingModeTracked : mode;
}
- (MTLResourceOptions)resourceOptions {
  return _options;
}
@end

@implementation MTLResidencySetDescriptor
@synthesize label = _label;
@synthesize initialCapacity = _initialCapacity;

- (void)dealloc {
  [_label release];
  [super dealloc];
}

- (id)copyWithZone:(NSZone*)zone {
  MTLResidencySetDescriptor* copy = [[MTLResidencySetDescriptor allocWithZone:zone] init];
  [copy setLabel:_label];
  [copy setInitialCapacity:_initialCapacity];
  return copy;
}
@end

// All memory is resident here: the set keeps its allocations alive, as Metal's does.
@implementation SMResidencySet

- (id)initWithDevice:(SMDevice*)device kind:(Kind)kind {
  if ((self = [super initWithDevice:device kind:kind])) _allocations = [[NSMutableSet alloc] init];
  return self;
}

- (void)dealloc {
  [_allocations release];
  [super dealloc];
}

- (uint64_t)allocatedSize {
  uint64_t sum = 0;
  for (id<MTLAllocation> each in _allocations) sum += [each allocatedSize];
  return sum;
}
- (NSUInteger)allocationCount {
  return [_allocations count];
}
- (void)requestResidency {
}
- (void)endResidency {
}
- (void)commit {
}
- (void)addAllocation:(id<MTLAllocation>)allocation {
  if (!allocation) refuse("addAllocation:", "there is no allocation");
  [_allocations addObject:allocation];
}
- (void)removeAllocation:(id<MTLAllocation>)allocation {
  if (!allocation) refuse("removeAllocation:", "there is no allocation");
  [_allocations removeObject:allocation];
}
- (void)removeAllAllocations {
  [_allocations removeAllObjects];
}
- (BOOL)containsAllocation:(id<MTLAllocation>)allocation {
  return [_allocations containsObject:allocation];
}
@end
