// Single steps of a plan on tensors of the caller, to see what each of them computes.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "npu/buffer.h"

namespace npu {

struct Plan;

// What one kernel does. Values are numbered as in the program; those beyond its last one belong to the plan,
// which keeps a tensor in another layout there.
struct PlannedStep {
  std::string kernel;
  std::vector<std::string> ops;    // of the program, in its order; none for a copy to another layout
  std::vector<int> reads, writes;  // values
};

// For one thread at a time.
class Steps {
 public:
  const std::vector<PlannedStep>& prepare() const;  // the steps that compute values from weights alone
  const std::vector<PlannedStep>& main() const;

  // Runs steps of `main` one after another, with the plan's own kernels and layouts, but with every tensor in
  // memory of its own. `given` has the tensors that they read from elsewhere, row-major, also weights and
  // prepared ones; one that they write in part may be given too. Returns those of `wanted` in memory of the
  // host.
  std::vector<Buffer> run(std::span<const int> steps, const std::map<int, Buffer>& given,
                          std::span<const int> wanted);
  // The same for steps of `prepare`, which run on the host on every device.
  std::vector<Buffer> run_prepare(std::span<const int> steps, const std::map<int, Buffer>& given,
                                  std::span<const int> wanted);

  struct Impl;
  explicit Steps(std::shared_ptr<const Plan> plan);

 private:
  std::shared_ptr<Impl> impl_;
};

}  // namespace npu
