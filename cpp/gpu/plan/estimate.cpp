#include "gpu/plan/estimate.h"

#include <algorithm>
#include <cstdio>

#include "core/plan/plan.h"
#include "gpu/plan/gpu_kernel.h"

namespace npu::gpu {

namespace {

// The share of the peaks that a good kernel reaches, and the fixed cost of a launch. Guesses from published
// figures, the same for all chips and not measured on hardware: good enough to rank plans, not to predict
// times. See docs/metal.md, Thresholds.
constexpr double kOfBandwidth = 0.8;
constexpr double kOfFlops = 0.6;
constexpr double kLaunchSeconds = 1.5e-6;
constexpr double kBarrierSeconds = 1.5e-6;
constexpr double kThreadsPerCore = 512;  // that hide a core's latencies

// Elements that a view reaches; what a stride of 0 repeats is one.
double distinct_bytes(const TensorDesc& desc) {
  if (!desc.present()) return 0;
  double elements = 1;
  for (std::size_t d = 0; d < desc.shape.size(); ++d) {
    if (desc.strides[d] != 0) elements *= static_cast<double>(desc.shape[d]);
    if (desc.shape[d] == 0) return 0;
  }
  return elements * static_cast<double>(size_of(desc.dtype));
}

const TensorDesc& desc_of(const Step& step, const BufferUse& use) {
  const auto i = static_cast<std::size_t>(use.index);
  return use.from == From::kInput ? step.input_descs[i] : step.output_descs[i];
}

double all_operands(const Step& step) {
  double bytes = 0;
  for (const auto& desc : step.input_descs) bytes += distinct_bytes(desc);
  for (const auto& desc : step.output_descs) bytes += distinct_bytes(desc);
  return bytes;
}

LaunchCost cost_of(const Step& step, const Launch& launch) {
  LaunchCost cost;
  const Dispatch& dispatch = *launch.dispatch;
  for (const BufferUse& use : dispatch.buffers) {
    double bytes = 0;
    if (use.from == From::kInput || use.from == From::kOutput) bytes = distinct_bytes(desc_of(step, use));
    if (use.from == From::kScratch || use.from == From::kPacked) {
      bytes = static_cast<double>(use.high - use.low);
    }
    if (use.reads) cost.read += bytes;
    if (use.writes) cost.written += bytes;
  }
  cost.threadgroups = 1;
  cost.threads = 1;
  for (const auto n : dispatch.groups) cost.threadgroups *= n;
  for (const auto n : dispatch.threads) cost.threads *= n;
  cost.threads *= cost.threadgroups;
  return cost;
}

// Products of halves have units of their own on some chips; elementwise arithmetic is float32.
double peak_flops(const Step& step, const Chip& chip) {
  const OpKind kind = step.op->kind;
  const bool multiplies = kind == OpKind::kMatmul || kind == OpKind::kConv || kind == OpKind::kAttention;
  return multiplies && size_of(step.input_descs.front().dtype) == 2 ? chip.half_flops : chip.flops;
}

double seconds_of(const LaunchCost& cost, bool barrier, const Chip& chip) {
  // Few threads leave cores idle, or waiting for memory.
  const double busy =
      std::min({1.0, cost.threadgroups / chip.cores, cost.threads / (chip.cores * kThreadsPerCore)});
  const double memory = (cost.read + cost.written) / (kOfBandwidth * chip.bytes_per_second * busy);
  const double arithmetic = cost.peak_seconds / (kOfFlops * busy);
  return std::max(memory, arithmetic) + kLaunchSeconds + (barrier ? kBarrierSeconds : 0);
}

std::string counted(std::size_t count, const char* what, const char* plural) {
  return std::to_string(count) + " " + what + (count == 1 ? "" : plural);
}

std::string number(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

}  // namespace

Estimate::Estimate(const Plan& plan, const Schedule& schedule, const Chip* chip) {
  std::vector<int> of_step(plan.steps.size(), 0);
  for (const Launch& launch : schedule.launches) {
    of_step[static_cast<std::size_t>(launch.step)] += launch.copies_state ? 0 : 1;
  }
  for (const Launch& launch : schedule.launches) {
    const Step& step = plan.steps[static_cast<std::size_t>(launch.step)];
    if (launch.copies_state) {
      launches.emplace_back();
      continue;
    }
    LaunchCost cost = cost_of(step, launch);
    const double count = of_step[static_cast<std::size_t>(launch.step)];
    cost.flops = step.kernel->flops() / count;
    // A kernel that touches less than its operands (some rows of a table, or of a cache) says so itself.
    if (step.kernel->bytes() > 0) {
      const double bytes = step.kernel->bytes() / count;
      cost.written = std::min(cost.written, bytes);
      cost.read = bytes - cost.written;
    }
    if (chip != nullptr) {
      cost.peak_seconds = cost.flops / peak_flops(step, *chip);
      cost.seconds = seconds_of(cost, launch.barrier, *chip);
    }
    total.read += cost.read;
    total.written += cost.written;
    total.flops += cost.flops;
    total.peak_seconds += cost.peak_seconds;
    total.threadgroups += cost.threadgroups;
    total.seconds += cost.seconds;
    launches.push_back(cost);
  }
  // Copies for a layout are the plan's own idea.
  for (const Step& step : plan.steps) {
    if (step.made_for_layout) continue;
    least_bytes += step.kernel->bytes() > 0 ? step.kernel->bytes() : all_operands(step);
  }
}

std::string Estimate::text(const Schedule& schedule, const Chip* chip) const {
  const double bytes = total.read + total.written;
  std::string text = counted(static_cast<std::size_t>(schedule.dispatches), "dispatch", "es") + " of " +
                     counted(schedule.pipelines.size(), "pipeline", "s") + ", " +
                     counted(static_cast<std::size_t>(schedule.barriers), "barrier", "s") + "\n" +
                     number("%.2f MB read, ", total.read / 1e6) +
                     number("%.2f MB written: ", total.written / 1e6) +
                     number("%.3f times the least possible\n", least_bytes > 0 ? bytes / least_bytes : 1.0);
  if (chip != nullptr) {
    text += "on an " + std::string(chip->product) + " with " + std::to_string(chip->cores) +
            number(" cores: about %.3f ms", total.seconds * 1e3) +
            number(", %.0f%% of its bandwidth", 100 * bytes / chip->bytes_per_second / total.seconds) +
            number(", %.0f%% of its arithmetic\n", 100 * total.peak_seconds / total.seconds);
  }
  for (std::size_t i = 0; i < launches.size(); ++i) {
    const Launch& launch = schedule.launches[i];
    const LaunchCost& cost = launches[i];
    if (launch.barrier) text += "  -- barrier\n";
    text += "  " + std::to_string(launch.step) + "  " + launch.label + ": ";
    if (launch.copies_state) {
      text += "only where the input is neither donated nor held\n";
      continue;
    }
    text += number("%.0f threadgroups", cost.threadgroups);
    if (chip != nullptr) text += number(" (%.2f a core)", cost.threadgroups / chip->cores);
    text += number(" of %.0f threads", cost.threads / cost.threadgroups) +
            number(", %.1f KB", (cost.read + cost.written) / 1e3) + number(", %.1f MFLOP", cost.flops / 1e6);
    if (chip != nullptr) text += number(", %.1f us", cost.seconds * 1e6);
    text += "\n";
  }
  return text;
}

}  // namespace npu::gpu
