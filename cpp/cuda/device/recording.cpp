#include "cuda/device/recording.h"

#include <algorithm>
#include <cstdlib>
#include <string>
#include <utility>

#include "core/base/text.h"
#include "cuda/device/ranges.h"
#include "cuda/device/stream_run.h"
#include "gpu/device/forks.h"
#include "npu/error.h"

namespace npu::cuda {

namespace {

constexpr int kRunsBeforeSpecializing = 8;
constexpr std::size_t kMostGraphs = 4;  // a session alternates between few skip sets

// For whoever wants to know which launch it was.
bool launches_are_watched() {
  const char* const blocking = std::getenv("CUDA_LAUNCH_BLOCKING");
  return names_are_wanted() || (blocking != nullptr && std::string(blocking) == "1");
}

}  // namespace

CudaRecording::CudaRecording(const gpu::Work& work, std::shared_ptr<Context> context, Background& background)
    : label_(work.label),
      context_(std::move(context)),
      background_(background),
      replays_(!launches_are_watched()),
      may_specialize_(environment_choice("NPU_CUDA_CONSTANT_ARGS", {"0", "1"}) != "0") {
  calls_.reserve(work.launches.size());
  const bool overlaps = context_->overlaps() && environment_choice("NPU_CUDA_OVERLAP", {"0", "1"}) != "0";
  const int cores = overlaps ? context_->attribute(kCuMultiprocessors) : 0;
  for (const gpu::Launch& launch : work.launches) calls_.emplace_back(launch, work.pipelines, cores);
}

CudaRecording::~CudaRecording() {
  if (gpu::is_forked()) return;  // the context is the parent's
  const Context::Current current(*context_, std::nothrow);
  graphs_.clear();
}

// Graphs are updated for what moved.
void CudaRecording::bind(std::span<const Address> resources) {
  const auto same = [](const Address& address, const std::byte* before) { return address.data == before; };
  if (std::equal(resources.begin(), resources.end(), bound_.begin(), bound_.end(), same)) return;
  auto graphs = std::exchange(graphs_, {});  // lost where an update fails, as is what was bound
  bound_.clear();
  for (std::size_t i = 0; i < calls_.size(); ++i) {
    if (!calls_[i].bind(resources)) continue;
    for (const auto& graph : graphs) graph->update(calls_[i], i);
  }
  graphs_ = std::move(graphs);
  for (const Address& address : resources) bound_.push_back(address.data);
}

Graph& CudaRecording::graph_for(std::span<const bool> skipped) {
  const auto known =
      std::find_if(graphs_.begin(), graphs_.end(), [&](const auto& graph) { return graph->is_for(skipped); });
  if (known != graphs_.end()) {
    std::rotate(known, known + 1, graphs_.end());
  } else {
    if (graphs_.size() == kMostGraphs) graphs_.erase(graphs_.begin());
    graphs_.push_back(std::make_unique<Graph>(calls_, skipped));
  }
  return *graphs_.back();
}

void CudaRecording::run(std::span<const Address> resources, std::span<const bool> skipped,
                        std::span<gpu::GpuTime> times) {
  gpu::refuse_forked("cuda");
  if (calls_.empty()) return;
  StreamRun run(*context_);
  if (runs_ <= kRunsBeforeSpecializing) ++runs_;
  if (runs_ > kRunsBeforeSpecializing) specialize();
  take_specialized();
  bind(resources);
  if (runs_ == 1 || !replays_ || !times.empty()) return run.launch(calls_, skipped, times, label_);
  run.launch_graph(graph_for(skipped));
  run.finish(label_);
}

void CudaRecording::specialize() {
  if (!specialization_ && may_specialize_) specialization_ = Specialization::begin(calls_, background_);
}

void CudaRecording::take_specialized() {
  if (specialized_ || !specialization_ || !specialization_->done()) return;
  specialized_ = true;
  graphs_.clear();
  for (std::size_t i = 0; i < calls_.size(); ++i) calls_[i].use(specialization_->kernels()[i]);
}

void CudaRecording::settle() {
  gpu::refuse_forked("cuda");
  specialize();
  if (specialization_) specialization_->wait();
}

}  // namespace npu::cuda
