// Launches as a CUDA graph.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "cuda/device/api.h"
#include "cuda/device/call.h"

namespace npu::cuda {

// The launches of one skip set, each after those that it depends on.
class Graph {
 public:
  // A launch that comes after one other overlaps with it if it may.
  Graph(std::span<const Call> calls, std::span<const bool> skipped);
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  bool is_for(std::span<const bool> skipped) const;
  void update(const Call& call, std::size_t launch);  // its buffers moved
  CuResult launch(CuStream stream) const;

 private:
  void add(std::span<const Call> calls, std::size_t launch);

  std::vector<bool> skipped_;                 // by launch; may be empty
  std::vector<std::vector<CuGraphNode>> at_;  // by launch: its node, or those that one left out waits for
  CuGraph graph_ = nullptr;
  CuGraphExec exec_ = nullptr;
};

}  // namespace npu::cuda
