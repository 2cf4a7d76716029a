// The launches of a plan in order, with the barriers between them.
#pragma once

#include <string>
#include <vector>

#include "gpu/device/driver.h"

namespace npu {
struct Plan;
}

namespace npu::gpu {

// Resources are numbered: the values of the plan, its packed forms, then these.
struct Resources {
  explicit Resources(const Plan& plan);
  int value(int v) const { return v; }
  int packed(int p) const { return values_ + p; }
  int scratch() const { return values_ + packed_; }
  int status() const { return scratch() + 1; }
  int nothing() const { return scratch() + 2; }
  int count() const { return scratch() + 3; }

 private:
  int values_, packed_;
};

struct Schedule {
  Schedule(const Plan& plan, const Caps& caps);

  std::string label;
  std::vector<Launch> launches;
  std::vector<PipelineKey> pipelines;
  int dispatches = 0;          // without copies of states
  std::vector<int> reporting;  // steps whose kernels may report an error, in the order of their Status
  int barriers = 0;

 private:
  int pipeline_of(const Dispatch& dispatch, bool as_line);
};

}  // namespace npu::gpu
