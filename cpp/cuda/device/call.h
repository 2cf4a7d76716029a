// A launch with what CUDA wants to be told of it.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "core/base/memory.h"
#include "cuda/device/api.h"
#include "cuda/device/pipelines.h"
#include "gpu/device/driver.h"

namespace npu::cuda {

class Call {
 public:
  // Where launches may overlap, of a GPU with so many cores; 0: they may not.
  Call(const gpu::Launch& launch, std::span<const std::shared_ptr<const gpu::Pipeline>> pipelines,
       int overlapping_cores = 0);

  const gpu::Launch& launch() const { return *launch_; }
  const CudaPipeline& pipeline() const { return static_cast<const CudaPipeline&>(*pipeline_); }
  const std::shared_ptr<const gpu::Pipeline>& shared_pipeline() const { return pipeline_; }

  // Takes the addresses of its buffers from there; says whether one of them moved.
  bool bind(std::span<const Address> resources);
  // From now on the arguments are constants of the code.
  void use(std::shared_ptr<const LoadedKernel> kernel);

  // Whether it may begin before the launch that it comes after has ended: its kernel has something to do
  // before it waits, or it is small. Larger launches that wait would take the places of those that work.
  bool may_overlap() const { return may_overlap_; }

  CuResult run(CuStream stream) const;
  [[noreturn]] void refuse(CuResult result) const;  // says that it could not be launched
  CuKernelNode node(void** parameters) const;       // `parameters` has room for kMostParameters

  static constexpr std::size_t kMostParameters = 35;  // 31 slots, the arguments, the extents of a line

 private:
  static constexpr std::size_t kSlots = 31;

  bool is_small(int cores) const;  // at most a block of usual size for each core, and little shared memory
  void allow_shared(const LoadedKernel& kernel) const;
  void fill(void** parameters) const;
  gpu::Size grid() const;

  const gpu::Launch* launch_;
  std::shared_ptr<const gpu::Pipeline> pipeline_;
  std::shared_ptr<const LoadedKernel> constant_;
  std::array<CuAddress, kSlots> addresses_{};
  bool may_overlap_;
};

}  // namespace npu::cuda
