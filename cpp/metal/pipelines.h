// Compiled kernels, kept by what they were compiled from.
#pragma once

#import <Metal/Metal.h>

#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "gpu/device/driver.h"
#include "gpu/device/known_pipelines.h"
#include "metal/object.h"

namespace npu::metal {

class MetalPipeline final : public gpu::Pipeline {
 public:
  explicit MetalPipeline(Ref<id<MTLComputePipelineState>> state) : state_(std::move(state)) {}
  id<MTLComputePipelineState> state() const { return state_.get(); }

 private:
  Ref<id<MTLComputePipelineState>> state_;
};

class Pipelines {
 public:
  explicit Pipelines(id<MTLDevice> device) : device_(device) {}
  std::vector<std::shared_ptr<const gpu::Pipeline>> compile(std::span<const gpu::PipelineKey> keys);

 private:
  using Source = gpu::KnownPipelines::Source;

  Ref<id<MTLLibrary>> library(const Source& source);
  std::shared_ptr<const gpu::Pipeline> pipeline(const gpu::PipelineKey& key);

  id<MTLDevice> device_;
  std::mutex mutex_;
  std::map<Source, Ref<id<MTLLibrary>>> libraries_;
  gpu::KnownPipelines pipelines_;
};

}  // namespace npu::metal
