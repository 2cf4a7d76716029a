// Encodes launches into command buffers.
#import <Foundation/Foundation.h>
#import <Metal/Metal.h>

#include <array>
#include <utility>

#include "gpu/device/forks.h"
#include "metal/chips.h"
#include "metal/metal_device.h"
#include "metal/metal_memory.h"
#include "metal/pipelines.h"
#include "npu/error.h"

namespace npu::metal {

namespace {

using gpu::GpuTime;
using gpu::Launch;
using gpu::Submission;

constexpr int kSlots = 31;  // of buffers, for one kernel

MTLSize size_of_grid(const gpu::Size& size) { return MTLSizeMake(size[0], size[1], size[2]); }

bool skips(const Submission& submission, std::size_t launch) {
  return !submission.skipped.empty() && submission.skipped[launch];
}

// Bindings persist between launches; only changes are encoded.
class Encoder {
 public:
  Encoder(id<MTLCommandBuffer> commands, const Submission& submission)
      : submission_(submission),
        encoder_([commands computeCommandEncoderWithDispatchType:MTLDispatchTypeConcurrent]) {
    [encoder_ setLabel:text(submission.label)];
  }

  // A skipped launch passes its barrier on to the next one.
  void launch(const Launch& launch, bool skipped) {
    barrier_ = barrier_ || launch.barrier;
    if (skipped) return;
    if (std::exchange(barrier_, false)) [encoder_ memoryBarrierWithScope:MTLBarrierScopeBuffers];
    const auto& pipeline =
        static_cast<const MetalPipeline&>(*submission_.pipelines[static_cast<std::size_t>(launch.pipeline)]);
    if (pipeline.state() != state_) [encoder_ setComputePipelineState:state_ = pipeline.state()];
    const gpu::Dispatch& dispatch = *launch.dispatch;
    if (!dispatch.args.empty()) {
      [encoder_ setBytes:dispatch.args.data() length:dispatch.args.size() atIndex:0];
    }
    for (const gpu::Binding& binding : launch.bindings) bind(binding);
    if (dispatch.threadgroup_bytes > 0) {
      [encoder_ setThreadgroupMemoryLength:static_cast<NSUInteger>(dispatch.threadgroup_bytes) atIndex:0];
    }
    [encoder_ dispatchThreadgroups:size_of_grid(dispatch.groups)
             threadsPerThreadgroup:size_of_grid(dispatch.threads)];
  }

  void end() { [encoder_ endEncoding]; }

 private:
  struct Bound {
    id<MTLBuffer> buffer = nil;
    NSUInteger offset = 0;
  };

  void bind(const gpu::Binding& binding) {
    const Address& address = submission_.resources[static_cast<std::size_t>(binding.resource)];
    const auto& memory = static_cast<const MetalMemory&>(*address.memory);
    const Bound wanted{memory.buffer(),
                       static_cast<NSUInteger>(address.data - memory.data() + binding.offset)};
    Bound& bound = bound_[static_cast<std::size_t>(binding.slot)];
    const auto slot = static_cast<NSUInteger>(binding.slot);
    if (bound.buffer != wanted.buffer) {
      [encoder_ setBuffer:wanted.buffer offset:wanted.offset atIndex:slot];
    } else if (bound.offset != wanted.offset) {
      [encoder_ setBufferOffset:wanted.offset atIndex:slot];
    }
    bound = wanted;
  }

  const Submission& submission_;
  id<MTLComputeCommandEncoder> encoder_;
  id<MTLComputePipelineState> state_ = nil;
  std::array<Bound, kSlots> bound_{};
  bool barrier_ = false;
};

class MetalDriver final : public gpu::Driver {
 public:
  MetalDriver(Ref<id<MTLDevice>> device, int tensor_cores)
      : device_(std::move(device)),
        queue_(Ref<id<MTLCommandQueue>>::adopt([device_.get() newCommandQueue])),
        residency_(std::make_shared<Residency>(device_.get(), queue_.get())),
        allocator_(this, device_.get(), residency_),
        pipelines_(device_.get()) {
    gpu::watch_forks();
    [queue_.get() setLabel:@"npu"];
    const std::string name = text([device_.get() name]);
    if (const auto chip = gpu::find_chip(kChips, name)) caps_ = caps_of(*chip);
    caps_.name = name;
    caps_.tensor_bytes = tensor_cores == 0 ? 0 : tensor_cores == 1 ? 97 << 10 : 224 << 10;
    caps_.stream_bytes = caps_.tensor_bytes;
    caps_.tensor_groups = tensor_cores == 2;
    caps_.threadgroup_bytes = static_cast<int>([device_.get() maxThreadgroupMemoryLength]);
    caps_.threads_per_group = static_cast<int>([device_.get() maxThreadsPerThreadgroup].width);
  }

  const gpu::Caps& caps() const override { return caps_; }
  std::shared_ptr<Memory> allocate(std::size_t bytes, bool zero) override {
    gpu::refuse_forked("metal");
    return allocator_.allocate(bytes, zero);
  }
  std::shared_ptr<Memory> share(const std::shared_ptr<Memory>& file) override {
    return allocator_.share(file);
  }
  std::vector<std::shared_ptr<const gpu::Pipeline>> compile(std::span<const gpu::PipelineKey> keys) override {
    gpu::refuse_forked("metal");
    return in_pool([&] { return pipelines_.compile(keys); });
  }

  void run(const Submission& submission, std::span<GpuTime> times) override {
    gpu::refuse_forked("metal");
    residency_->update();
    in_pool([&] { times.empty() ? run_at_once(submission) : run_one_by_one(submission, times); });
  }

 private:
  // Resources outlive the run, which waits; Metal need not retain them one by one.
  id<MTLCommandBuffer> new_commands(const std::string& label) {
    id<MTLCommandBuffer> commands = [queue_.get() commandBufferWithUnretainedReferences];
    if (commands == nil) {
      throw Error(ErrorKind::kUnavailable, {.area = "metal", .what = "no command buffer is available"});
    }
    [commands setLabel:text(label)];
    return commands;
  }

  void finish(id<MTLCommandBuffer> commands, const std::string& label) {
    [commands commit];
    [commands waitUntilCompleted];
    if ([commands status] == MTLCommandBufferStatusCompleted) return;
    throw Error(
        ErrorKind::kInternal,
        {.area = "metal", .what = "the GPU failed to run " + quoted(label), .got = text([commands error])});
  }

  void run_at_once(const Submission& submission) {
    id<MTLCommandBuffer> commands = new_commands(submission.label);
    Encoder encoder(commands, submission);
    for (std::size_t i = 0; i < submission.launches.size(); ++i) {
      encoder.launch(submission.launches[i], skips(submission, i));
    }
    encoder.end();
    finish(commands, submission.label);
  }

  // GPUs report times per command buffer, so each launch gets its own.
  void run_one_by_one(const Submission& submission, std::span<GpuTime> times) {
    for (std::size_t i = 0; i < submission.launches.size(); ++i) {
      if (skips(submission, i)) continue;
      const Launch& launch = submission.launches[i];
      id<MTLCommandBuffer> commands = new_commands(launch.label);
      Encoder encoder(commands, submission);
      encoder.launch(launch, false);
      encoder.end();
      finish(commands, launch.label);
      times[i] = {static_cast<std::int64_t>([commands GPUStartTime] * 1e9),
                  static_cast<std::int64_t>([commands GPUEndTime] * 1e9)};
    }
  }

  Ref<id<MTLDevice>> device_;
  Ref<id<MTLCommandQueue>> queue_;
  std::shared_ptr<Residency> residency_;
  Allocator allocator_;
  Pipelines pipelines_;
  gpu::Caps caps_;
};

// Kernels use simdgroup matrices and bfloat, which Apple's GPUs have from the M1 on.
bool will_do(id<MTLDevice> device) { return [device supportsFamily:MTLGPUFamilyApple7]; }

}  // namespace

GpuInfo find_device() {
  return in_pool([] {
    const auto device = Ref<id<MTLDevice>>::adopt(MTLCreateSystemDefaultDevice());
    GpuInfo info;
    if (!device || !will_do(device.get())) return info;
    info.name = text([device.get() name]);
    info.memory_bytes = [device.get() recommendedMaxWorkingSetSize];
    info.features = {"bfloat16", "simdgroup_matrix"};
    if (@available(macOS 15.0, *)) info.features.emplace_back("residency_sets");
    return info;
  });
}

std::shared_ptr<gpu::Driver> open_driver(int tensor_cores) {
  return in_pool([tensor_cores]() -> std::shared_ptr<gpu::Driver> {
    auto device = Ref<id<MTLDevice>>::adopt(MTLCreateSystemDefaultDevice());
    if (!device || !will_do(device.get())) {
      throw Error(ErrorKind::kUnavailable, {.area = "metal",
                                            .what = device ? "the GPU " + quoted(text([device.get() name])) +
                                                                 " lacks simdgroup matrices"
                                                           : "there is no Metal device",
                                            .expected = "an Apple M1 or later, with macOS 14 or later"});
    }
    return std::make_shared<MetalDriver>(std::move(device), tensor_cores);
  });
}

}  // namespace npu::metal
