#include "cuda/device/specialization.h"

#include <map>
#include <string>
#include <tuple>

namespace npu::cuda {

std::shared_ptr<Specialization> Specialization::begin(std::span<const Call> calls, Background& background) {
  using Key = std::tuple<const CudaPipeline*, std::string, gpu::Size>;
  std::map<Key, std::vector<std::size_t>> alike;
  for (std::size_t i = 0; i < calls.size(); ++i) {
    const gpu::Dispatch& dispatch = *calls[i].launch().dispatch;
    if (calls[i].pipeline().takes_args()) {
      alike[{&calls[i].pipeline(), dispatch.args_text(), dispatch.threads}].push_back(i);
    }
  }
  auto all = std::make_shared<Specialization>();
  all->kernels_.resize(calls.size());
  all->open_ = alike.size();
  for (const auto& [key, launches] : alike) {
    // The pipeline and the dispatch belong to the plan, which may be gone before the work is done.
    const bool taken = background.add([all, pipeline = calls[launches.front()].shared_pipeline(),
                                       dispatch = *calls[launches.front()].launch().dispatch, launches] {
      all->compile(static_cast<const CudaPipeline&>(*pipeline), dispatch, launches);
    });
    if (!taken) all->open_.fetch_sub(1, std::memory_order_release);  // its arguments are passed, as before
  }
  return all;
}

void Specialization::compile(const CudaPipeline& pipeline, const gpu::Dispatch& dispatch,
                             const std::vector<std::size_t>& launches) {
  std::shared_ptr<const LoadedKernel> kernel;
  std::exception_ptr failure;
  try {
    kernel = pipeline.with_constants(dispatch);
  } catch (...) {
    failure = std::current_exception();
  }
  const std::lock_guard lock(mutex_);
  for (const std::size_t launch : launches) kernels_[launch] = kernel;
  if (!failure_) failure_ = failure;
  open_.fetch_sub(1, std::memory_order_release);
  finished_.notify_all();
}

void Specialization::wait() {
  std::unique_lock lock(mutex_);
  finished_.wait(lock, [this] { return done(); });
  if (failure_) std::rethrow_exception(failure_);
}

}  // namespace npu::cuda
