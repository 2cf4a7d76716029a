#include "cuda/device/graph.h"

#include <algorithm>
#include <array>
#include <utility>

#include "gpu/device/forks.h"

namespace npu::cuda {

Graph::Graph(std::span<const Call> calls, std::span<const bool> skipped)
    : skipped_(skipped.begin(), skipped.end()), at_(calls.size()) {
  check(api().create_graph(&graph_, 0), "making a graph");
  try {
    for (std::size_t i = 0; i < calls.size(); ++i) add(calls, i);
    check(api().instantiate(&exec_, graph_, 0), "instantiating a graph");
  } catch (...) {
    api().destroy_graph(graph_);
    throw;
  }
}

Graph::~Graph() {
  if (gpu::is_forked()) return;  // it is the parent's
  if (exec_ != nullptr) api().destroy_exec(exec_);
  if (graph_ != nullptr) api().destroy_graph(graph_);
}

void Graph::add(std::span<const Call> calls, std::size_t launch) {
  std::vector<CuGraphNode> before;
  for (const int earlier : calls[launch].launch().after) {
    const auto& nodes = at_[static_cast<std::size_t>(earlier)];
    before.insert(before.end(), nodes.begin(), nodes.end());
  }
  std::sort(before.begin(), before.end());
  before.erase(std::unique(before.begin(), before.end()), before.end());
  if (!skipped_.empty() && skipped_[launch]) {
    at_[launch] = std::move(before);
    return;
  }
  std::array<void*, Call::kMostParameters> parameters{};
  const CuKernelNode node = calls[launch].node(parameters.data());
  at_[launch].resize(1);
  const bool overlaps = before.size() == 1 && calls[launch].may_overlap();
  const std::size_t ended = overlaps ? 0 : before.size();
  const CuResult result = api().add_kernel(at_[launch].data(), graph_, before.data(), ended, &node);
  if (result != kCuSuccess) calls[launch].refuse(result);
  if (!overlaps) return;
  check(api().add_edges(graph_, before.data(), at_[launch].data(), &kCuOverlapping, 1),
        "ordering " + calls[launch].launch().label);
}

bool Graph::is_for(std::span<const bool> skipped) const {
  return std::equal(skipped.begin(), skipped.end(), skipped_.begin(), skipped_.end());
}

void Graph::update(const Call& call, std::size_t launch) {
  if (!skipped_.empty() && skipped_[launch]) return;
  std::array<void*, Call::kMostParameters> parameters{};
  const CuKernelNode node = call.node(parameters.data());
  check(api().update_kernel(exec_, at_[launch].front(), &node), "updating " + call.launch().label);
}

CuResult Graph::launch(CuStream stream) const { return api().launch_graph(exec_, stream); }

}  // namespace npu::cuda
