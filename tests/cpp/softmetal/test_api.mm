// The Metal API in software: what it runs, what it refuses, and how it fails.
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#import "metal.h"

using npu::test::Owned;
using npu::test::text;

namespace {

const char* const kKernels = R"(
#include <metal_stdlib>
using namespace metal;
constant int factor [[function_constant(0)]];
constant bool negated [[function_constant(1)]];
constant bool negates = is_function_constant_defined(negated) && negated;
struct Params { uint count; float bias; };

kernel void scale(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                  constant Params& p [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  if (i < p.count) y[i] = (negates ? -x[i] : x[i]) * factor + p.bias;
}
kernel void increment(device float* y [[buffer(0)]], uint i [[thread_position_in_grid]]) { y[i] += 1; }
kernel void overrun(device float* y [[buffer(0)]], uint i [[thread_position_in_grid]]) { y[i + 1] = 1; }
kernel void reverse(device float* y [[buffer(0)]], threadgroup float* s [[threadgroup(0)]],
                    uint i [[thread_position_in_threadgroup]], uint n [[threads_per_threadgroup]]) {
  s[i] = y[i];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[i] = s[n - 1 - i];
}
[[max_total_threads_per_threadgroup(64)]] kernel void small(device float* y [[buffer(0)]],
                                                            uint i [[thread_position_in_grid]]) {
  y[i] = 1;
}
)";

struct Params {
  unsigned count;
  float bias;
};

constexpr MTLResourceOptions kOptions = MTLResourceStorageModeShared | MTLResourceHazardTrackingModeUntracked;

// A device, a queue and the kernels above.
class Metal {
 public:
  Metal()
      : device_(MTLCreateSystemDefaultDevice()),
        queue_([device_.get() newCommandQueue]),
        library_(make_library()) {}

  id<MTLDevice> device() { return device_; }
  id<MTLCommandQueue> queue() { return queue_; }
  id<MTLLibrary> library() { return library_; }

  id<MTLComputePipelineState> pipeline(NSString* name, int factor = 2) {  // owned by the pool
    Owned<MTLFunctionConstantValues*> constants([[MTLFunctionConstantValues alloc] init]);
    [constants.get() setConstantValue:&factor type:MTLDataTypeInt atIndex:0];
    NSError* error = nil;
    Owned<id<MTLFunction>> function([library_.get() newFunctionWithName:name
                                                         constantValues:constants
                                                                  error:&error]);
    id<MTLComputePipelineState> state = [device_.get() newComputePipelineStateWithFunction:function
                                                                                     error:&error];
    CHECK(state != nil);
    return [state autorelease];
  }

  id<MTLBuffer> buffer(const std::vector<float>& values) {
    return [[device_.get() newBufferWithBytes:values.data() length:values.size() * 4
                                      options:kOptions] autorelease];
  }

 private:
  id<MTLLibrary> make_library() {
    NSError* error = nil;
    id<MTLLibrary> library = [device_.get() newLibraryWithSource:[NSString stringWithUTF8String:kKernels]
                                                         options:nil
                                                           error:&error];
    CHECK_EQ(text(error), "");
    return library;
  }

  Owned<id<MTLDevice>> device_;
  Owned<id<MTLCommandQueue>> queue_;
  Owned<id<MTLLibrary>> library_;
};

float* floats(id<MTLBuffer> buffer) { return static_cast<float*>([buffer contents]); }

MTLSize line(NSUInteger n) { return MTLSizeMake(n, 1, 1); }

// One dispatch of a kernel of one buffer.
void encode(Metal& metal, id<MTLComputeCommandEncoder> encoder, NSString* name, id<MTLBuffer> y,
            NSUInteger threads) {
  [encoder setComputePipelineState:metal.pipeline(name)];
  [encoder setBuffer:y offset:0 atIndex:0];
  [encoder dispatchThreads:line(threads) threadsPerThreadgroup:line(threads)];
}

}  // namespace

TEST(api, runs_a_kernel_with_constants_bytes_and_offsets) {
  @autoreleasepool {
    Metal metal;
    id<MTLBuffer> x = metal.buffer({1, 2, 3, 4, 5, 6, 7, 8});
    Owned<id<MTLBuffer>> y([metal.device() newBufferWithLength:32 options:kOptions]);
    Params params{4, 0.5f};
    id<MTLCommandBuffer> commands = [metal.queue() commandBuffer];
    id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
    [encoder setComputePipelineState:metal.pipeline(@"scale", 3)];
    [encoder setBuffer:x offset:0 atIndex:0];
    [encoder setBufferOffset:16 atIndex:0];
    [encoder setBuffer:y offset:0 atIndex:1];
    [encoder setBytes:&params length:sizeof params atIndex:2];
    [encoder dispatchThreadgroups:line(1) threadsPerThreadgroup:line(32)];
    [encoder endEncoding];
    CHECK_EQ(static_cast<int>([commands status]), 0);
    [commands commit];
    [commands waitUntilCompleted];
    CHECK_EQ(text([commands error]), "");
    CHECK([commands status] == MTLCommandBufferStatusCompleted);
    CHECK([commands GPUEndTime] >= [commands GPUStartTime]);
    for (int i = 0; i < 4; ++i) CHECK_EQ(floats(y)[i], static_cast<float>(i + 5) * 3 + 0.5f);
  }
}

TEST(api, says_what_device_and_pipelines_are) {
  @autoreleasepool {
    Metal metal;
    CHECK([metal.device() supportsFamily:MTLGPUFamilyApple7]);
    CHECK(![metal.device() supportsFamily:MTLGPUFamilyApple9]);
    CHECK_EQ([metal.device() maxThreadgroupMemoryLength], 32768ul);
    CHECK_EQ([[metal.library() functionNames] count], 5ul);
    id<MTLComputePipelineState> small = metal.pipeline(@"small");
    CHECK_EQ([small maxTotalThreadsPerThreadgroup], 64ul);
    CHECK_EQ([small threadExecutionWidth], 32ul);
    Owned<MTLComputePipelineDescriptor*> descriptor([[MTLComputePipelineDescriptor alloc] init]);
    int factor = 1;
    Owned<MTLFunctionConstantValues*> constants([[MTLFunctionConstantValues alloc] init]);
    [constants.get() setConstantValue:&factor type:MTLDataTypeInt withName:@"factor"];
    Owned<id<MTLFunction>> function([metal.library() newFunctionWithName:@"reverse"
                                                          constantValues:constants
                                                                   error:nil]);
    [descriptor.get() setComputeFunction:function];
    [descriptor.get() setLabel:@"backwards"];
    [descriptor.get() setMaxTotalThreadsPerThreadgroup:128];
    Owned<id<MTLComputePipelineState>> state([metal.device()
        newComputePipelineStateWithDescriptor:descriptor
                                      options:MTLPipelineOptionNone
                                   reflection:nil
                                        error:nil]);
    CHECK_EQ([state.get() maxTotalThreadsPerThreadgroup], 128ul);
    CHECK([[state.get() label] isEqualToString:@"backwards"]);
  }
}

TEST(api, sources_and_functions_that_are_wrong_give_errors) {
  @autoreleasepool {
    Metal metal;
    NSError* error = nil;
    CHECK([metal.device() newLibraryWithSource:@"kernel void f(device float* x [[buffer(0)]]) { x[0] = y; }"
                                       options:nil
                                         error:&error] == nil);
    CHECK_CONTAINS(text(error), "program_source:1");
    CHECK([error code] == MTLLibraryErrorCompileFailure);
    CHECK([metal.library() newFunctionWithName:@"scale"] == nil);  // its constants are missing
    Owned<MTLFunctionConstantValues*> constants([[MTLFunctionConstantValues alloc] init]);
    CHECK([metal.library() newFunctionWithName:@"scale" constantValues:constants error:&error] == nil);
    CHECK_CONTAINS(text(error), "function constant factor (0) has no value");
    float number = 1;
    [constants.get() setConstantValue:&number type:MTLDataTypeFloat atIndex:0];
    CHECK([metal.library() newFunctionWithName:@"scale" constantValues:constants error:&error] == nil);
    CHECK_CONTAINS(text(error), "another type");
    CHECK([metal.library() newFunctionWithName:@"nothing" constantValues:constants error:&error] == nil);
    CHECK_CONTAINS(text(error), "no function nothing");
  }
}

TEST(api, concurrent_dispatches_need_barriers) {
  @autoreleasepool {
    Metal metal;
    for (int barriers : {0, 1, 2}) {
      id<MTLBuffer> y = metal.buffer(std::vector<float>(32, 0));
      id<MTLCommandBuffer> commands = [metal.queue() commandBufferWithUnretainedReferences];
      id<MTLComputeCommandEncoder> encoder =
          [commands computeCommandEncoderWithDispatchType:MTLDispatchTypeConcurrent];
      encode(metal, encoder, @"increment", y, 32);
      if (barriers == 1) [encoder memoryBarrierWithScope:MTLBarrierScopeBuffers];
      id<MTLResource> resources[] = {y};
      if (barriers == 2) [encoder memoryBarrierWithResources:resources count:1];
      encode(metal, encoder, @"small", y, 32);
      [encoder endEncoding];
      [commands commit];
      [commands waitUntilCompleted];
      if (barriers) {
        CHECK_EQ(text([commands error]), "");
        continue;
      }
      CHECK([commands status] == MTLCommandBufferStatusError);
      const std::string what = text([commands error]);
      CHECK_CONTAINS(what, "kernel small");
      CHECK_CONTAINS(what, "no barrier separates it from dispatch 0 (increment)");
      CHECK_CONTAINS(what, "bytes 0 to 4 of buffer 0 (y)");
    }
  }
}

TEST(api, serial_dispatches_need_none) {
  @autoreleasepool {
    Metal metal;
    id<MTLBuffer> y = metal.buffer(std::vector<float>(32, 0));
    id<MTLCommandBuffer> commands = [metal.queue() commandBuffer];
    id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
    for (int i = 0; i < 3; ++i) encode(metal, encoder, @"increment", y, 32);
    [encoder endEncoding];
    [commands commit];
    [commands waitUntilCompleted];
    CHECK_EQ(text([commands error]), "");
    CHECK_EQ(floats(y)[31], 3.0f);
  }
}

TEST(api, a_fault_is_the_command_buffers_error) {
  @autoreleasepool {
    Metal metal;
    id<MTLCommandBuffer> commands = [metal.queue() commandBuffer];
    id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
    encode(metal, encoder, @"overrun", metal.buffer(std::vector<float>(32, 0)), 32);
    [encoder endEncoding];
    [commands commit];
    [commands waitUntilCompleted];
    CHECK([commands status] == MTLCommandBufferStatusError);
    CHECK([[commands error] code] == MTLCommandBufferErrorPageFault);
    CHECK([[[commands error] domain] isEqualToString:MTLCommandBufferErrorDomain]);
    CHECK_CONTAINS(text([commands error]), "kernel overrun");
    CHECK_CONTAINS(text([commands error]), "writes 4 bytes at 128 of buffer 0 (y), which has 128 bytes");
  }
}

TEST(api, a_test_can_make_a_command_buffer_fail) {
  @autoreleasepool {
    Metal metal;
    softmetal::fail_next_command_buffer("the GPU hangs");
    for (bool fails : {true, false}) {
      id<MTLCommandBuffer> commands = [metal.queue() commandBuffer];
      [commands commit];
      [commands waitUntilCompleted];
      CHECK_EQ(text([commands error]), fails ? "the GPU hangs" : "");
    }
  }
}

TEST(api, buffers_released_too_early_are_noticed) {
  @autoreleasepool {
    Metal metal;
    for (bool retained : {true, false}) {
      const std::vector<float> zeros(32, 0);
      id<MTLBuffer> y = [metal.device() newBufferWithBytes:zeros.data() length:128 options:kOptions];
      id<MTLCommandBuffer> commands =
          retained ? [metal.queue() commandBuffer] : [metal.queue() commandBufferWithUnretainedReferences];
      id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
      encode(metal, encoder, @"increment", y, 32);
      [encoder endEncoding];
      [y release];
      [commands commit];
      [commands waitUntilCompleted];
      CHECK_CONTAINS(text([commands error]), retained ? "" : "buffer 0 was released");
      CHECK(([commands error] == nil) == retained);
    }
  }
}

TEST(api, threadgroup_memory_is_the_encoders) {
  @autoreleasepool {
    Metal metal;
    id<MTLBuffer> y = metal.buffer({1, 2, 3, 4});
    id<MTLCommandBuffer> commands = [metal.queue() commandBuffer];
    id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
    [encoder setComputePipelineState:metal.pipeline(@"reverse")];
    [encoder setBuffer:y offset:0 atIndex:0];
    CHECK_REFUSED([encoder dispatchThreads:line(4) threadsPerThreadgroup:line(4)], "no length was set");
    CHECK_REFUSED([encoder setThreadgroupMemoryLength:20 atIndex:0], "no multiple of 16");
    [encoder setThreadgroupMemoryLength:32784 atIndex:0];
    CHECK_REFUSED([encoder dispatchThreads:line(4) threadsPerThreadgroup:line(4)],
                  "32784 bytes of threadgroup memory");
    [encoder setThreadgroupMemoryLength:16 atIndex:0];
    [encoder dispatchThreads:line(4) threadsPerThreadgroup:line(4)];
    [encoder endEncoding];
    [commands commit];
    [commands waitUntilCompleted];
    CHECK_EQ(floats(y)[0], 4.0f);
  }
}

TEST(api, refuses_what_is_bound_wrongly) {
  @autoreleasepool {
    Metal metal;
    id<MTLBuffer> x = metal.buffer({1, 2, 3, 4});
    id<MTLCommandBuffer> commands = [metal.queue() commandBuffer];
    id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
    CHECK_REFUSED([encoder dispatchThreads:line(4) threadsPerThreadgroup:line(4)], "no pipeline is set");
    [encoder setComputePipelineState:metal.pipeline(@"scale")];
    CHECK_REFUSED([encoder setBuffer:x offset:16 atIndex:0], "offset 16 in a buffer of 16 bytes");
    CHECK_REFUSED([encoder setBuffer:x offset:0 atIndex:31], "index 31");
    CHECK_REFUSED([encoder setBufferOffset:0 atIndex:0], "no buffer is bound at index 0");
    id<MTLBuffer> both[] = {x, x};
    NSUInteger offsets[] = {0, 0};
    [encoder setBuffers:both offsets:offsets withRange:NSMakeRange(0, 2)];
    CHECK_REFUSED([encoder dispatchThreads:line(4) threadsPerThreadgroup:line(4)],
                  "no buffer is bound for argument p");
    int count = 4;
    [encoder setBytes:&count length:4 atIndex:2];
    CHECK_REFUSED([encoder dispatchThreads:line(4) threadsPerThreadgroup:line(4)],
                  "has 4 bytes, its type has 8");
    [encoder setBuffer:x offset:2 atIndex:0];
    std::vector<char> many(4097);
    CHECK_REFUSED([encoder setBytes:many.data() length:4097 atIndex:2], "at most 4096");
    Params params{4, 0};
    [encoder setBytes:&params length:sizeof params atIndex:2];
    CHECK_REFUSED([encoder dispatchThreads:line(4) threadsPerThreadgroup:line(4)], "a multiple of 4");
    [encoder setBufferOffset:0 atIndex:0];
    CHECK_REFUSED([encoder dispatchThreads:line(0) threadsPerThreadgroup:line(4)], "empty grid");
    CHECK_REFUSED([encoder dispatchThreads:line(4) threadsPerThreadgroup:line(1025)], "1025 threads");
    [encoder setComputePipelineState:metal.pipeline(@"small")];
    CHECK_REFUSED([encoder dispatchThreads:line(4) threadsPerThreadgroup:line(65)], "allows 64");
    [encoder endEncoding];
  }
}

TEST(api, refuses_calls_out_of_order) {
  @autoreleasepool {
    Metal metal;
    id<MTLCommandBuffer> commands = [metal.queue() commandBuffer];
    CHECK_REFUSED([commands waitUntilCompleted], "was not committed");
    id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
    CHECK_REFUSED([commands computeCommandEncoder], "another encoder");
    CHECK_REFUSED([commands commit], "an encoder has not ended");
    [encoder pushDebugGroup:@"group"];
    CHECK_REFUSED([encoder endEncoding], "debug group");
    [encoder popDebugGroup];
    CHECK_REFUSED([encoder popDebugGroup], "no group");
    [encoder endEncoding];
    CHECK_REFUSED([encoder endEncoding], "the encoder has ended");
    CHECK_REFUSED([encoder memoryBarrierWithScope:MTLBarrierScopeBuffers], "the encoder has ended");
    [commands commit];
    CHECK_REFUSED([commands commit], "committed before");
    CHECK_REFUSED([commands computeCommandEncoder], "was committed");
    [commands waitUntilCompleted];
  }
}

TEST(api, command_buffers_run_as_they_were_enqueued) {
  @autoreleasepool {
    Metal metal;
    id<MTLBuffer> y = metal.buffer(std::vector<float>(32, 5));
    id<MTLCommandBuffer> first = [metal.queue() commandBuffer], second = [metal.queue() commandBuffer];
    [first enqueue];
    CHECK_REFUSED([first enqueue], "enqueued already");
    for (id<MTLCommandBuffer> commands : {second, first}) {
      id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
      encode(metal, encoder, commands == first ? @"small" : @"increment", y, 32);
      [encoder endEncoding];
      [commands commit];
    }
    [second waitUntilCompleted];
    CHECK([first status] == MTLCommandBufferStatusCompleted);
    CHECK_EQ(floats(y)[0], 2.0f);
  }
}

TEST(api, a_queue_has_room_for_so_many_command_buffers) {
  @autoreleasepool {
    Metal metal;
    Owned<id<MTLCommandQueue>> queue([metal.device() newCommandQueueWithMaxCommandBufferCount:2]);
    for (int i = 0; i < 5; ++i) [[queue.get() commandBuffer] commit];  // waits for those before
    id<MTLCommandBuffer> last = [queue.get() commandBuffer];
    [last commit];
    [last waitUntilCompleted];
    [queue.get() commandBuffer];
    [queue.get() commandBuffer];
    CHECK_REFUSED([queue.get() commandBuffer], "none was committed");
  }
}

TEST(api, pages_of_others_are_used_where_they_lie) {
  @autoreleasepool {
    Metal metal;
    const std::size_t page = softmetal::page_size();
    void* pages = mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    auto wrap = [&](char* at, std::size_t length) {
      return [[metal.device() newBufferWithBytesNoCopy:at length:length options:kOptions
                                           deallocator:nil] autorelease];
    };
    auto* first = static_cast<char*>(pages);
    CHECK_REFUSED(wrap(first + 16, page), "is not that of a page");
    CHECK_REFUSED(wrap(first, page + 16), "is not made of pages");
    CHECK([wrap(first, page) contents] == pages);
    softmetal::set_page_size(64 * page);
    CHECK_REFUSED(wrap(first, page), "a page of " + std::to_string(64 * page));
    softmetal::set_page_size(page);
    munmap(pages, 2 * page);
  }
}

TEST(api, buffers_start_unwritten) {
  @autoreleasepool {
    Metal metal;
    CHECK([metal.device() newBufferWithLength:0 options:kOptions] == nil);
    CHECK([metal.device() newBufferWithLength:~0ul options:kOptions] == nil);
    Owned<id<MTLBuffer>> y([metal.device() newBufferWithLength:128 options:kOptions]);
    CHECK([y.get() hazardTrackingMode] == MTLHazardTrackingModeUntracked);
    for (bool written : {false, true}) {
      if (written)
        for (int i = 0; i < 32; ++i) floats(y)[i] = 0;
      id<MTLCommandBuffer> commands = [metal.queue() commandBuffer];
      id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
      encode(metal, encoder, @"increment", y, 32);
      [encoder endEncoding];
      [commands commit];
      [commands waitUntilCompleted];
      CHECK_CONTAINS(text([commands error]), written ? "" : "which nothing has written");
      CHECK(([commands error] == nil) == written);
    }
  }
}

TEST(api, exceptions_pass_through_objective_c) {
  struct Thrower {
    static void run(id<MTLDevice> device) {
      @autoreleasepool {
        std::string local = "destroyed on the way";
        [device newCommandQueueWithMaxCommandBufferCount:0];
      }
    }
  };
  Owned<id<MTLDevice>> device(MTLCreateSystemDefaultDevice());
  for (int i = 0; i < 100; ++i) CHECK_REFUSED(Thrower::run(device), "a queue of no command buffers");
}

TEST(api, many_threads_use_one_queue) {
  @autoreleasepool {
    Metal metal;
    std::vector<std::thread> threads;
    std::atomic<int> failures{0};
    for (int t = 0; t < 4; ++t)
      threads.emplace_back([&] {
        for (int run = 0; run < 50; ++run) @autoreleasepool {
            id<MTLBuffer> y = metal.buffer(std::vector<float>(32, static_cast<float>(run)));
            id<MTLCommandBuffer> commands = [metal.queue() commandBuffer];
            id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
            encode(metal, encoder, @"increment", y, 32);
            [encoder endEncoding];
            [commands commit];
            [commands waitUntilCompleted];
            if (floats(y)[7] != static_cast<float>(run + 1)) ++failures;
          }
      });
    for (std::thread& thread : threads) thread.join();
    CHECK_EQ(failures.load(), 0);
  }
}

TEST(api, nothing_leaks_over_many_runs) {
  softmetal::set_mode(softmetal::Mode::fast);
  const long before = softmetal::live_objects();
  @autoreleasepool {
    Metal metal;
    id<MTLComputePipelineState> increment = metal.pipeline(@"increment");
    id<MTLBuffer> y = metal.buffer(std::vector<float>(32, 0));
    for (int run = 0; run < 10000; ++run) @autoreleasepool {
        id<MTLCommandBuffer> commands = [metal.queue() commandBufferWithUnretainedReferences];
        id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
        [encoder setComputePipelineState:increment];
        [encoder setBuffer:y offset:0 atIndex:0];
        [encoder dispatchThreads:line(32) threadsPerThreadgroup:line(32)];
        [encoder endEncoding];
        [commands commit];
        [commands waitUntilCompleted];
      }
    CHECK_EQ(floats(y)[0], 10000.0f);
  }
  CHECK_EQ(softmetal::live_objects(), before);
  softmetal::set_mode(softmetal::Mode::checked);
}
