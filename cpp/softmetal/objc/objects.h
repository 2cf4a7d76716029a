// The classes behind the protocols of Metal. Instance variables are plain pointers: the runtime runs no C++
// constructors, so each object makes and deletes what it points to.
#pragma once

#import <Metal/Metal.h>

#include "objc/encoding.h"
#include "objc/state.h"

namespace softmetal {
inline std::string text(NSString* value) { return value ? [value UTF8String] : ""; }
inline NSString* text(const std::string& value) { return [NSString stringWithUTF8String:value.c_str()]; }
void set_error(NSError** error, NSString* domain, NSInteger code, const std::string& what);
NSError* make_error(NSString* domain, NSInteger code, const std::string& what);
}  // namespace softmetal

@interface SMArchitecture : MTLArchitecture
@end

@interface SMDevice : NSObject <MTLDevice> {
  SMArchitecture* _architecture;
}
@end

// What all objects but the device share: they keep the device and count as alive.
@interface SMObject : NSObject {
 @protected
  SMDevice* _device;
  softmetal::Kind _kind;
  NSString* _label;
}
@property(copy, atomic) NSString* label;
@property(readonly) id<MTLDevice> device;
- (id)initWithDevice:(SMDevice*)device kind:(softmetal::Kind)kind;
@end

@interface SMBuffer : SMObject <MTLBuffer> {
 @public
  std::shared_ptr<softmetal::Buffer>* _buffer;
  MTLResourceOptions _options;
}
- (id)initWithDevice:(SMDevice*)device
              buffer:(std::shared_ptr<softmetal::Buffer>)buffer
             options:(MTLResourceOptions)options;
@end

@interface SMResidencySet : SMObject <MTLResidencySet> {
  NSMutableSet* _allocations;
}
@end

@interface SMLibrary : SMObject <MTLLibrary> {
 @public
  std::shared_ptr<softmetal::Library>* _library;
}
- (id)initWithDevice:(SMDevice*)device library:(std::shared_ptr<softmetal::Library>)library;
@end

@interface SMFunction : SMObject <MTLFunction> {
 @public
  softmetal::Function* _function;
}
- (id)initWithDevice:(SMDevice*)device function:(softmetal::Function)function;
@end

@interface SMPipelineState : SMObject <MTLComputePipelineState> {
 @public
  std::shared_ptr<const softmetal::Pipeline>* _pipeline;
}
- (id)initWithDevice:(SMDevice*)device pipeline:(std::shared_ptr<const softmetal::Pipeline>)pipeline;
@end

@interface MTLFunctionConstantValues (Values)
- (std::vector<softmetal::ConstantValue>&)values;
@end

@interface SMQueue : SMObject <MTLCommandQueue> {
 @public
  std::shared_ptr<softmetal::Queue>* _queue;
}
- (id)initWithDevice:(SMDevice*)device most:(NSUInteger)most;
@end

@interface SMCommandBuffer : SMObject <MTLCommandBuffer> {
  SMQueue* _queue;
  std::shared_ptr<softmetal::CommandBuffer>* _commands;
  MTLCommandBufferErrorOption _errorOptions;
  NSError* _error;
  int _groups;
}
- (id)initWithQueue:(SMQueue*)queue retained:(BOOL)retained options:(MTLCommandBufferErrorOption)options;
@end

@interface SMEncoder : SMObject <MTLComputeCommandEncoder> {
  softmetal::Encoding* _encoding;
  MTLDispatchType _type;
}
- (id)initWithDevice:(SMDevice*)device encoding:(softmetal::Encoding*)encoding type:(MTLDispatchType)type;
@end
