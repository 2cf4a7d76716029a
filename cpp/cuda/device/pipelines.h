// Kernels of one GPU, compiled when they are first asked for.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "cuda/device/context.h"
#include "cuda/device/kernel_cache.h"
#include "cuda/lower/lowered.h"
#include "cuda/nvrtc.h"
#include "gpu/device/driver.h"
#include "gpu/device/known_pipelines.h"

namespace npu::cuda {

class Pipelines;

class CudaPipeline final : public gpu::Pipeline {
 public:
  CudaPipeline(Pipelines& owner, gpu::PipelineKey key, std::shared_ptr<const Lowered> library);

  // What an entry takes before the extents of a line: the arguments, or the buffer of a slot.
  struct Parameter {
    bool args = false;
    int slot = 0;
  };
  const std::vector<Parameter>& parameters() const { return parameters_; }
  const std::string& name() const { return key_.function; }

  // `as_line`: for grids that are longer along y or z than CUDA allows. Compiled when it is first asked for.
  CuFunction function(bool as_line) const;

 private:
  Pipelines& owner_;
  gpu::PipelineKey key_;
  std::shared_ptr<const Lowered> library_;
  std::vector<Parameter> parameters_;
  mutable std::mutex mutex_;
  mutable CuFunction functions_[2] = {nullptr, nullptr};
};

class Pipelines {
 public:
  Pipelines(std::shared_ptr<Context> context, std::vector<std::string> site_packages);

  std::vector<std::shared_ptr<const gpu::Pipeline>> compile(std::span<const gpu::PipelineKey> keys);

 private:
  friend class CudaPipeline;
  using Source = gpu::KnownPipelines::Source;

  std::shared_ptr<const Lowered> lowered(const Source& source);
  CuFunction compile_entry(const Lowered& library, const gpu::PipelineKey& key, bool as_line);
  std::string cubin_of(const std::string& text, const std::string& name);
  std::shared_ptr<const Nvrtc> nvrtc();

  std::shared_ptr<Context> context_;
  std::vector<std::string> site_packages_, options_;
  KernelCache cache_;
  std::mutex mutex_;
  std::shared_ptr<const Nvrtc> nvrtc_;
  std::map<Source, std::shared_ptr<const Lowered>> lowered_;
  gpu::KnownPipelines pipelines_;
};

}  // namespace npu::cuda
