// A plan's launches, run in the quickest way that is ready.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cuda/device/background.h"
#include "cuda/device/call.h"
#include "cuda/device/context.h"
#include "cuda/device/graph.h"
#include "cuda/device/specialization.h"
#include "gpu/device/driver.h"

namespace npu::cuda {

// The first run launches one by one, for programs that run once; later ones replay a graph; when there have
// been more of them, the arguments of launches become constants of their code.
class CudaRecording final : public gpu::Recording {
 public:
  CudaRecording(const gpu::Work& work, std::shared_ptr<Context> context, Background& background);
  ~CudaRecording() override;

  void run(std::span<const Address> resources, std::span<const bool> skipped,
           std::span<gpu::GpuTime> times) override;
  void settle() override;

 private:
  void bind(std::span<const Address> resources);
  void specialize();
  void take_specialized();
  Graph& graph_for(std::span<const bool> skipped);

  const std::string& label_;
  std::shared_ptr<Context> context_;
  Background& background_;
  std::vector<Call> calls_;
  std::vector<const std::byte*> bound_;         // addresses of resources, as calls_ have them
  std::vector<std::unique_ptr<Graph>> graphs_;  // used last at the end
  std::shared_ptr<Specialization> specialization_;
  const bool replays_, may_specialize_;
  bool specialized_ = false;
  int runs_ = 0;  // as far as it is of interest
};

}  // namespace npu::cuda
