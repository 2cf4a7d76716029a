// What a schedule costs on a chip, without the chip.
#pragma once

#include <string>
#include <vector>

#include "gpu/device/chip.h"
#include "gpu/plan/schedule.h"

namespace npu::gpu {

struct LaunchCost {
  double read = 0, written = 0;  // bytes that must come from and go to memory once
  double flops = 0;
  double peak_seconds = 0;  // of that arithmetic, at the chip's best
  double threadgroups = 0, threads = 0;
  double seconds = 0;  // 0 for a chip that is not known
};

struct Estimate {
  Estimate(const Plan& plan, const Schedule& schedule, const Chip* chip);

  std::vector<LaunchCost> launches;
  LaunchCost total;
  // Each operand and result of every step for ops of the program counted once, and nothing else.
  double least_bytes = 0;
  // Totals first, a line for each launch after them.
  std::string text(const Schedule& schedule, const Chip* chip) const;
};

}  // namespace npu::gpu
