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
#include "cuda/lower/entry.h"
#include "cuda/lower/lowered.h"
#include "cuda/nvrtc.h"
#include "gpu/device/driver.h"
#include "gpu/device/known_pipelines.h"

namespace npu::cuda {

class Pipelines;

// A kernel that is on the GPU for as long as it lives.
class LoadedKernel {
 public:
  LoadedKernel(std::shared_ptr<Context> context, const std::string& cubin, const LoweredKernel& kernel);
  ~LoadedKernel();
  LoadedKernel(const LoadedKernel&) = delete;
  LoadedKernel& operator=(const LoadedKernel&) = delete;

  CuFunction function() const { return function_; }

  // Launches may ask for so many bytes of dynamic shared memory: with what the kernel declares, more than 48
  // KiB only after this. Those that run beside others do not divide a core's memory in their own way, which
  // the others would have to wait for.
  void allow_shared(int bytes, bool beside_others) const;

 private:
  std::shared_ptr<Context> context_;
  CuModule module_ = nullptr;
  CuFunction function_ = nullptr;
  mutable std::mutex mutex_;
  mutable int allowed_ = 0;  // bytes that were asked for: launches of one kernel may want more or less
};

class CudaPipeline final : public gpu::Pipeline {
 public:
  CudaPipeline(Pipelines& owner, gpu::PipelineKey key, std::shared_ptr<const Lowered> library);

  // What an entry takes before the extents of a line: the arguments, or the buffer of a slot.
  struct Parameter {
    bool args = false;
    int slot = 0;
  };
  const std::vector<Parameter>& parameters() const { return parameters_; }
  bool takes_args() const;
  bool as_line() const { return key_.as_line; }
  bool waits() const { return library_->waits(); }  // for its inputs, itself

  const LoadedKernel& kernel() const { return *kernel_; }
  CuFunction function() const { return kernel_->function(); }
  // The same kernel with this launch's arguments and threads as constants of the code; compiled when it is
  // first asked for, and kept for as long as somebody has it.
  std::shared_ptr<const LoadedKernel> with_constants(const gpu::Dispatch& dispatch) const;

 private:
  using Constants = std::pair<std::string, gpu::Size>;  // the arguments' bytes, and threads

  std::shared_ptr<const LoadedKernel> compile(const EntryOptions& options) const;

  Pipelines& owner_;
  gpu::PipelineKey key_;
  std::shared_ptr<const Lowered> library_;
  std::vector<Parameter> parameters_;
  std::shared_ptr<const LoadedKernel> kernel_;
  mutable std::mutex mutex_;
  mutable std::map<Constants, std::weak_ptr<const LoadedKernel>> with_constants_;
};

class Pipelines {
 public:
  Pipelines(std::shared_ptr<Context> context, std::vector<std::string> site_packages);

  std::vector<std::shared_ptr<const gpu::Pipeline>> compile(std::span<const gpu::PipelineKey> keys);

 private:
  friend class CudaPipeline;
  using Source = gpu::KnownPipelines::Source;

  std::shared_ptr<const Lowered> lowered(const Source& source);
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
