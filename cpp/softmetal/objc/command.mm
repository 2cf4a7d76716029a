// Queues, command buffers and encoders: thin over the C++ that does the work.
#import "objc/objects.h"

using softmetal::Kind;
using softmetal::refuse;

namespace {
softmetal::Extent extent(MTLSize size) {
  return {static_cast<unsigned>(size.width), static_cast<unsigned>(size.height),
          static_cast<unsigned>(size.depth)};
}
}  // namespace

@implementation MTLCommandBufferDescriptor
@synthesize retainedReferences = _retainedReferences;
@synthesize errorOptions = _errorOptions;

- (id)init {
  if ((self = [super init])) _retainedReferences = YES;
  return self;
}

- (id)copyWithZone:(NSZone*)zone {
  MTLCommandBufferDescriptor* copy = [[MTLCommandBufferDescriptor allocWithZone:zone] init];
  [copy setRetainedReferences:_retainedReferences];
  [copy setErrorOptions:_errorOptions];
  return copy;
}
@end

@implementation SMQueue

- (id)initWithDevice:(SMDevice*)device most:(NSUInteger)most {
  if ((self = [super initWithDevice:device kind:Kind::queue]))
    _queue = new std::shared_ptr<softmetal::Queue>(std::make_shared<softmetal::Queue>(most));
  return self;
}

- (void)dealloc {
  (*_queue)->close();
  delete _queue;
  [super dealloc];
}

- (id<MTLCommandBuffer>)commandBufferRetaining:(BOOL)retained options:(MTLCommandBufferErrorOption)options {
  return [[[SMCommandBuffer alloc] initWithQueue:self retained:retained options:options] autorelease];
}
- (id<MTLCommandBuffer>)commandBuffer {
  return [self commandBufferRetaining:YES options:MTLCommandBufferErrorOptionNone];
}
- (id<MTLCommandBuffer>)commandBufferWithUnretainedReferences {
  return [self commandBufferRetaining:NO options:MTLCommandBufferErrorOptionNone];
}
- (id<MTLCommandBuffer>)commandBufferWithDescriptor:(MTLCommandBufferDescriptor*)descriptor {
  return [self commandBufferRetaining:[descriptor retainedReferences] options:[descriptor errorOptions]];
}
- (void)addResidencySet:(id<MTLResidencySet>)set {
  if (!set) refuse("addResidencySet:", "there is no residency set");
}
- (void)removeResidencySet:(id<MTLResidencySet>)set {
  if (!set) refuse("removeResidencySet:", "there is no residency set");
}
@end

@implementation SMCommandBuffer

- (id)initWithQueue:(SMQueue*)queue retained:(BOOL)retained options:(MTLCommandBufferErrorOption)options {
  auto commands = std::make_shared<softmetal::CommandBuffer>(*queue->_queue, retained);
  if ((self = [super initWithDevice:[queue device] kind:Kind::command_buffer])) {
    _queue = [queue retain];
    _commands = new std::shared_ptr<softmetal::CommandBuffer>(std::move(commands));
    _errorOptions = options;
  }
  return self;
}

- (void)dealloc {
  delete _commands;
  [_queue release];
  [_error release];
  [super dealloc];
}

- (id<MTLCommandQueue>)commandQueue {
  return _queue;
}
- (BOOL)retainedReferences {
  return (*_commands)->retained();
}
- (MTLCommandBufferErrorOption)errorOptions {
  return _errorOptions;
}
- (CFTimeInterval)kernelStartTime {
  return (*_commands)->start_time();
}
- (CFTimeInterval)kernelEndTime {
  return (*_commands)->end_time();
}
- (CFTimeInterval)GPUStartTime {
  return (*_commands)->start_time();
}
- (CFTimeInterval)GPUEndTime {
  return (*_commands)->end_time();
}
- (MTLCommandBufferStatus)status {
  return static_cast<MTLCommandBufferStatus>((*_commands)->status());
}

- (NSError*)error {
  if ((*_commands)->status() != softmetal::CommandBuffer::failed) return nil;
  static std::mutex mutex;
  std::lock_guard lock(mutex);
  if (!_error) {
    softmetal::Failure failure = (*_commands)->failure();
    _error = [softmetal::make_error(MTLCommandBufferErrorDomain, failure.code, failure.text) retain];
  }
  return _error;
}

- (void)enqueue {
  (*_commands)->enqueue();
}
- (void)commit {
  (*_commands)->commit();
}
- (void)waitUntilScheduled {
  (*_commands)->wait_until(softmetal::CommandBuffer::scheduled);
}
- (void)waitUntilCompleted {
  (*_commands)->wait_until(softmetal::CommandBuffer::completed);
}

- (id<MTLComputeCommandEncoder>)computeCommandEncoder {
  return [self computeCommandEncoderWithDispatchType:MTLDispatchTypeSerial];
}

- (id<MTLComputeCommandEncoder>)computeCommandEncoderWithDispatchType:(MTLDispatchType)type {
  auto pass = (*_commands)->begin_pass(type == MTLDispatchTypeConcurrent);
  auto* encoding = new softmetal::Encoding(std::move(pass), (*_commands)->retained());
  return [[[SMEncoder alloc] initWithDevice:_device encoding:encoding type:type] autorelease];
}

- (void)pushDebugGroup:(NSString*)name {
  ++_groups;
}
- (void)popDebugGroup {
  if (_groups == 0) refuse("popDebugGroup", "no group was pushed");
  --_groups;
}
- (void)useResidencySet:(id<MTLResidencySet>)set {
  if (!set) refuse("useResidencySet:", "there is no residency set");
}
@end

@implementation SMEncoder

- (id)initWithDevice:(SMDevice*)device encoding:(softmetal::Encoding*)encoding type:(MTLDispatchType)type {
  if ((self = [super initWithDevice:device kind:Kind::encoder])) {
    _encoding = encoding;
    _type = type;
  }
  return self;
}

- (void)dealloc {
  delete _encoding;
  [super dealloc];
}

- (MTLDispatchType)dispatchType {
  return _type;
}
- (void)setComputePipelineState:(id<MTLComputePipelineState>)state {
  SMPipelineState* pipeline = state;
  _encoding->set_pipeline(pipeline ? *pipeline->_pipeline : nullptr);
}
- (void)setBytes:(const void*)bytes length:(NSUInteger)length atIndex:(NSUInteger)index {
  _encoding->set_bytes(bytes, length, index);
}
- (void)setBuffer:(id<MTLBuffer>)buffer offset:(NSUInteger)offset atIndex:(NSUInteger)index {
  SMBuffer* memory = buffer;
  _encoding->set_buffer(memory ? *memory->_buffer : nullptr, offset, index);
}
- (void)setBufferOffset:(NSUInteger)offset atIndex:(NSUInteger)index {
  _encoding->set_offset(offset, index);
}
- (void)setBuffers:(const id<MTLBuffer>[])buffers
           offsets:(const NSUInteger[])offsets
         withRange:(NSRange)range {
  for (NSUInteger i = 0; i < range.length; ++i)
    [self setBuffer:buffers[i] offset:offsets[i] atIndex:range.location + i];
}
- (void)setThreadgroupMemoryLength:(NSUInteger)length atIndex:(NSUInteger)index {
  _encoding->set_threadgroup_memory(length, index);
}
- (void)dispatchThreadgroups:(MTLSize)groups threadsPerThreadgroup:(MTLSize)threads {
  _encoding->dispatch_groups(extent(groups), extent(threads));
}
- (void)dispatchThreads:(MTLSize)grid threadsPerThreadgroup:(MTLSize)threads {
  _encoding->dispatch_threads(extent(grid), extent(threads));
}
- (void)memoryBarrierWithScope:(MTLBarrierScope)scope {
  if (scope & MTLBarrierScopeBuffers) _encoding->barrier({});
}
- (void)memoryBarrierWithResources:(const id<MTLResource>[])resources count:(NSUInteger)count {
  std::vector<std::weak_ptr<softmetal::Buffer>> buffers;
  for (NSUInteger i = 0; i < count; ++i) buffers.push_back(*static_cast<SMBuffer*>(resources[i])->_buffer);
  if (!buffers.empty()) _encoding->barrier(std::move(buffers));
}
- (void)endEncoding {
  _encoding->end();
}
- (void)insertDebugSignpost:(NSString*)string {
}
- (void)pushDebugGroup:(NSString*)string {
  _encoding->push_group();
}
- (void)popDebugGroup {
  _encoding->pop_group();
}
@end
