// The device, and what all objects have in common.
#include <unistd.h>

#include <cstdlib>

#import "objc/objects.h"

NSString* const MTLCommandBufferErrorDomain = @"MTLCommandBufferErrorDomain";
NSString* const MTLLibraryErrorDomain = @"MTLLibraryErrorDomain";

using softmetal::Kind;
using softmetal::refuse;

namespace softmetal {

NSError* make_error(NSString* domain, NSInteger code, const std::string& what) {
  NSDictionary* info = [NSDictionary dictionaryWithObject:text(what) forKey:NSLocalizedDescriptionKey];
  return [NSError errorWithDomain:domain code:code userInfo:info];
}

void set_error(NSError** error, NSString* domain, NSInteger code, const std::string& what) {
  if (error) *error = make_error(domain, code, what);
}

namespace {

uint64_t memory_of_host() {
  return static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

}  // namespace

}  // namespace softmetal

@implementation MTLArchitecture
- (NSString*)name {
  return @"";
}
- (id)copyWithZone:(NSZone*)zone {
  return [self retain];
}
@end

@implementation SMArchitecture
- (NSString*)name {
  return @"softmetal";
}
@end

@implementation SMObject
@synthesize label = _label;

- (id)initWithDevice:(SMDevice*)device kind:(Kind)kind {
  if ((self = [super init])) {
    _device = [device retain];
    _kind = kind;
    softmetal::count(kind, 1);
  }
  return self;
}

- (void)dealloc {
  softmetal::count(_kind, -1);
  [_label release];
  [_device release];
  [super dealloc];
}

- (id<MTLDevice>)device {
  return _device;
}
@end

@implementation SMDevice

- (id)init {
  if ((self = [super init])) _architecture = [[SMArchitecture alloc] init];
  return self;
}

- (void)dealloc {
  [_architecture release];
  [super dealloc];
}

- (NSString*)name {
  const char* name = std::getenv("SOFTMETAL_DEVICE");
  return name && *name ? [NSString stringWithUTF8String:name] : @"Apple M1 (software)";
}
- (uint64_t)registryID {
  return 0x50f7;
}
- (MTLArchitecture*)architecture {
  return _architecture;
}
- (MTLSize)maxThreadsPerThreadgroup {
  constexpr NSUInteger most = softmetal::kMaxThreadsPerThreadgroup;
  return MTLSizeMake(most, most, most);
}
- (BOOL)isLowPower {
  return NO;
}
- (BOOL)hasUnifiedMemory {
  return YES;
}
- (uint64_t)recommendedMaxWorkingSetSize {
  return softmetal::memory_of_host() / 4 * 3;
}
- (NSUInteger)currentAllocatedSize {
  return softmetal::Buffer::allocated();
}
- (NSUInteger)maxBufferLength {
  return softmetal::memory_of_host() / 2;
}
- (NSUInteger)maxThreadgroupMemoryLength {
  return softmetal::kMaxThreadgroupMemory;
}

- (BOOL)supportsFamily:(MTLGPUFamily)family {
  return (family >= MTLGPUFamilyApple1 && family <= MTLGPUFamilyApple8) || family == MTLGPUFamilyMac2 ||
         (family >= MTLGPUFamilyCommon1 && family <= MTLGPUFamilyCommon3) || family == MTLGPUFamilyMetal3;
}

- (id<MTLCommandQueue>)newCommandQueue {
  return [self newCommandQueueWithMaxCommandBufferCount:64];
}

- (id<MTLCommandQueue>)newCommandQueueWithMaxCommandBufferCount:(NSUInteger)most {
  if (most == 0) refuse("newCommandQueueWithMaxCommandBufferCount:", "a queue of no command buffers");
  return [[SMQueue alloc] initWithDevice:self most:most];
}

- (id<MTLBuffer>)bufferOf:(std::shared_ptr<softmetal::Buffer>)buffer options:(MTLResourceOptions)options {
  if (!buffer) return nil;
  return [[SMBuffer alloc] initWithDevice:self buffer:buffer options:options];
}

- (id<MTLBuffer>)newBufferWithLength:(NSUInteger)length options:(MTLResourceOptions)options {
  if (length == 0 || length > [self maxBufferLength]) return nil;
  return [self bufferOf:softmetal::Buffer::allocate(length, nullptr) options:options];
}

- (id<MTLBuffer>)newBufferWithBytes:(const void*)bytes
                             length:(NSUInteger)length
                            options:(MTLResourceOptions)options {
  if (!bytes) refuse("newBufferWithBytes:length:options:", "there are no bytes");
  if (length == 0 || length > [self maxBufferLength]) return nil;
  return [self bufferOf:softmetal::Buffer::allocate(length, bytes) options:options];
}

- (id<MTLBuffer>)newBufferWithBytesNoCopy:(void*)pointer
                                   length:(NSUInteger)length
                                  options:(MTLResourceOptions)options
                              deallocator:(void*)deallocator {
  const char* call = "newBufferWithBytesNoCopy:length:options:deallocator:";
  const std::size_t page = softmetal::page_size();
  if (deallocator) refuse(call, "a deallocator is a block, of which there are none here");
  if (!pointer || reinterpret_cast<std::uintptr_t>(pointer) % page)
    refuse(call, "the pointer is not that of a page of " + std::to_string(page) + " bytes");
  if (length == 0 || length % page)
    refuse(call, "a length of " + std::to_string(length) + " bytes is not made of pages of " +
                     std::to_string(page));
  if ((options & 0xf0) == MTLResourceStorageModePrivate) refuse(call, "the host's memory cannot be private");
  if (length > [self maxBufferLength]) return nil;
  return [self bufferOf:softmetal::Buffer::wrap(pointer, length) options:options];
}

- (id<MTLResidencySet>)newResidencySetWithDescriptor:(MTLResidencySetDescriptor*)descriptor
                                               error:(NSError**)error {
  SMResidencySet* set = [[SMResidencySet alloc] initWithDevice:self kind:Kind::residency_set];
  [set setLabel:[descriptor label]];
  return set;
}

// --- libraries and pipelines ---

- (id<MTLLibrary>)libraryOf:(const std::string&)source
                       name:(const std::string&)name
                    options:(MTLCompileOptions*)options
                      error:(NSError**)error {
  try {
    softmetal::CompileOptions wanted;
    wanted.name = name;
    NSDictionary* macros = [options preprocessorMacros];
    for (NSString* macro in [macros allKeys])
      wanted.macros[softmetal::text(macro)] = softmetal::text([[macros objectForKey:macro] description]);
    auto library = softmetal::Library::from_source(source, wanted);
    library->image(softmetal::mode());
    return [[SMLibrary alloc] initWithDevice:self library:library];
  } catch (const softmetal::MachineError& failure) {
    softmetal::set_error(error, MTLLibraryErrorDomain, MTLLibraryErrorCompileFailure, failure.what());
    return nil;
  }
}

- (id<MTLLibrary>)newLibraryWithSource:(NSString*)source
                               options:(MTLCompileOptions*)options
                                 error:(NSError**)error {
  if (!source) refuse("newLibraryWithSource:options:error:", "there is no source");
  return [self libraryOf:softmetal::text(source) name:"program_source" options:options error:error];
}

// A file of source text: there is nobody here to read what Apple's compiler makes.
- (id<MTLLibrary>)newLibraryWithURL:(NSURL*)url error:(NSError**)error {
  NSData* data = [NSData dataWithContentsOfFile:[url path]];
  if (!data) {
    softmetal::set_error(error, MTLLibraryErrorDomain, MTLLibraryErrorFileNotFound,
                         "cannot read " + softmetal::text([url path]));
    return nil;
  }
  std::string source(static_cast<const char*>([data bytes]), [data length]);
  if (source.starts_with("MTLB")) {
    softmetal::set_error(error, MTLLibraryErrorDomain, MTLLibraryErrorUnsupported,
                         "Metal in software reads sources, no compiled libraries");
    return nil;
  }
  return [self libraryOf:source name:softmetal::text([url path]) options:nil error:error];
}

- (id<MTLComputePipelineState>)pipelineOf:(id<MTLFunction>)function
                                  threads:(NSUInteger)threads
                                    label:(NSString*)label
                                    error:(NSError**)error {
  if (!function) refuse("newComputePipelineState", "there is no function");
  const softmetal::Function& kernel = *static_cast<SMFunction*>(function)->_function;
  if (threads > softmetal::kMaxThreadsPerThreadgroup)
    refuse("newComputePipelineState", std::to_string(threads) + " threads per threadgroup");
  if (kernel.layout().bytes > softmetal::kMaxThreadgroupMemory) {
    softmetal::set_error(error, @"AGXMetalSoftware", 3,
                         "kernel " + kernel.name() + " declares " + std::to_string(kernel.layout().bytes) +
                             " bytes of threadgroup memory; there are " +
                             std::to_string(softmetal::kMaxThreadgroupMemory));
    return nil;
  }
  std::size_t most = kernel.max_threads();
  if (threads && threads < most) most = threads;
  auto pipeline = std::make_shared<const softmetal::Pipeline>(kernel, most);
  SMPipelineState* state = [[SMPipelineState alloc] initWithDevice:self pipeline:pipeline];
  [state setLabel:label];
  return state;
}

- (id<MTLComputePipelineState>)newComputePipelineStateWithFunction:(id<MTLFunction>)function
                                                             error:(NSError**)error {
  return [self pipelineOf:function threads:0 label:nil error:error];
}

- (id<MTLComputePipelineState>)newComputePipelineStateWithDescriptor:(MTLComputePipelineDescriptor*)descriptor
                                                             options:(MTLPipelineOption)options
                                                          reflection:
                                                              (MTLComputePipelineReflection**)reflection
                                                               error:(NSError**)error {
  return [self pipelineOf:[descriptor computeFunction]
                  threads:[descriptor maxTotalThreadsPerThreadgroup]
                    label:[descriptor label]
                    error:error];
}

@end

// One device for the process, as on a Mac.
static SMDevice* shared_device() {
  static SMDevice* device = [[SMDevice alloc] init];
  return device;
}

id<MTLDevice> MTLCreateSystemDefaultDevice(void) { return [shared_device() retain]; }

NSArray* MTLCopyAllDevices(void) { return [[NSArray alloc] initWithObjects:shared_device(), nil]; }
