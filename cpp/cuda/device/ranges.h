// Names for NVIDIA's profilers, through NVTX where that is there: what runs meanwhile is shown below them.
#pragma once

#include <string>

namespace npu::cuda {

// Whether a profiler is attached that wants names, or NPU_NVTX is 1. Launches are then made one by one.
bool names_are_wanted();

class NamedRange {
 public:
  explicit NamedRange(const std::string& name);
  ~NamedRange();
  NamedRange(const NamedRange&) = delete;
  NamedRange& operator=(const NamedRange&) = delete;
};

}  // namespace npu::cuda
