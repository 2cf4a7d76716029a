// Kernels on a stream of their own, from the first launch to the wait for the last.
#pragma once

#include <span>
#include <string>

#include "cuda/device/call.h"
#include "cuda/device/context.h"
#include "cuda/device/graph.h"
#include "gpu/device/driver.h"

namespace npu::cuda {

class StreamRun {
 public:
  explicit StreamRun(Context& context);  // throws where the GPU is lost

  CuStream stream() const { return stream_.get(); }
  // In the order of the calls; `times` is empty, or has an element for each.
  void launch(std::span<const Call> calls, std::span<const bool> skipped, std::span<gpu::GpuTime> times,
              const std::string& label);
  void launch_graph(const Graph& graph);
  // Throws where a kernel failed; the GPU is then lost.
  void finish(const std::string& label);

 private:
  void launch_one(const Call& call);
  void launch_timed(std::span<const Call> calls, std::span<const bool> skipped, std::span<gpu::GpuTime> times,
                    const std::string& label);

  Context& context_;
  Context::Current current_;
  BorrowedStream stream_;
};

}  // namespace npu::cuda
