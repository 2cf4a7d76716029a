#include "gpu/device/gpu_runner.h"

#include <algorithm>
#include <cstring>

#include "core/plan/plan.h"
#include "metal/args.h"
#include "npu/error.h"

namespace npu::gpu {

namespace {
constexpr std::size_t kSmallRoom = 64;  // for a status, or instead of an absent operand

struct ByStep {  // launches are in the order of their steps
  bool operator()(const Launch& launch, int step) const { return launch.step < step; }
  bool operator()(int step, const Launch& launch) const { return step < launch.step; }
};

// Whether negative indices count from the end.
bool wraps(const Op& op) {
  return std::visit(
      [](const auto& attrs) {
        if constexpr (requires { attrs.wrap; }) return attrs.wrap;
        return false;
      },
      op.attrs);
}

// The words are those of the CPU device.
[[noreturn]] void refuse(const Op& op, const Status& status) {
  if (status.dimension < 0) {
    throw Error(ErrorKind::kInvalidValue, {.area = "run", .what = "an integer was divided by zero"});
  }
  const auto dimension = static_cast<std::size_t>(status.dimension - 1);
  const auto indexed = static_cast<std::size_t>(info_of(op.kind).indexed);
  const std::int64_t extent = op.inputs[indexed].shape[dimension];
  throw Error(ErrorKind::kInvalidValue, {.area = "run",
                                         .what = "an index of the op " + quoted(op.name) +
                                                 " is out of range in dimension " + std::to_string(dimension),
                                         .got = std::to_string(status.index),
                                         .expected = "from " + std::to_string(wraps(op) ? -extent : 0) +
                                                     " to " + std::to_string(extent - 1)});
}

}  // namespace

void GpuPlan::summarize(PlanSummary& summary) const {
  summary.dispatches = schedule.dispatches;
  summary.barriers = schedule.barriers;
  summary.bytes = estimate.total.read + estimate.total.written;
  summary.least_bytes = estimate.least_bytes;
  summary.seconds = estimate.total.seconds;
}

GpuRunner::GpuRunner(const Plan& plan, std::shared_ptr<Driver> driver)
    : plan_(plan),
      gpu_(static_cast<const GpuPlan&>(*plan.device_plan)),
      driver_(std::move(driver)),
      status_(
          driver_->allocate_visible(std::max(kSmallRoom, gpu_.schedule.reporting.size() * sizeof(Status)))),
      nothing_(driver_->allocate(kSmallRoom, true)),
      recording_(driver_->record({gpu_.schedule.label, gpu_.schedule.launches, gpu_.pipelines})),
      resources_(static_cast<std::size_t>(gpu_.resources.count())) {
  resources_[static_cast<std::size_t>(gpu_.resources.status())] = {status_->data(), status_.get()};
  resources_[static_cast<std::size_t>(gpu_.resources.nothing())] = {nothing_->data(), nothing_.get()};
  for (std::size_t i = 0; i < gpu_.schedule.launches.size(); ++i) {
    if (gpu_.schedule.launches[i].dispatch->same_output >= 0) skippable_.push_back(i);
  }
  if (!skippable_.empty()) skipped_ = std::make_unique<bool[]>(gpu_.schedule.launches.size());
}

// What copies an operand to where it is already has nothing to do.
void GpuRunner::find_skipped(const RunAddresses& addresses) {
  for (const std::size_t i : skippable_) {
    const Launch& launch = gpu_.schedule.launches[i];
    const Step& step = plan_.steps[static_cast<std::size_t>(launch.step)];
    const auto address = [&](const PlannedOperand& operand) {
      return addresses.values[static_cast<std::size_t>(operand.value)].data + operand.offset;
    };
    skipped_[i] = address(step.outputs[static_cast<std::size_t>(launch.dispatch->same_output)]) ==
                  address(step.inputs[static_cast<std::size_t>(launch.dispatch->same_input)]);
  }
}

void GpuRunner::bind_resources(const RunAddresses& addresses) {
  auto at = std::copy(addresses.values.begin(), addresses.values.end(), resources_.begin());
  at = std::copy(addresses.packed.begin(), addresses.packed.end(), at);
  *at = addresses.scratch;
  find_skipped(addresses);
}

void GpuRunner::run(const RunAddresses& addresses, std::span<StepTime> times) {
  bind_resources(addresses);
  if (!times.empty()) gpu_times_.assign(gpu_.schedule.launches.size(), {});
  recording_->run(resources_, skipped(), times.empty() ? std::span<GpuTime>() : gpu_times_);
  check_status();
  if (!times.empty()) sum_times(gpu_.schedule.launches, skipped(), gpu_times_, times);
}

void GpuRunner::run_step(const RunAddresses& addresses, std::size_t step) {
  bind_resources(addresses);
  const auto& launches = gpu_.schedule.launches;
  const auto [begin, end] =
      std::equal_range(launches.begin(), launches.end(), static_cast<int>(step), ByStep());
  if (begin == end) return;
  const auto first = static_cast<std::size_t>(begin - launches.begin());
  const auto count = static_cast<std::size_t>(end - begin);
  driver_->run({{gpu_.schedule.label, {begin, end}, gpu_.pipelines},
                resources_,
                skipped_ ? skipped().subspan(first, count) : skipped()},
               {});
  check_status();
}

void GpuRunner::check_status() const {
  auto* const status = reinterpret_cast<Status*>(status_->data());
  for (std::size_t i = 0; i < gpu_.schedule.reporting.size(); ++i) {
    if (status[i].dimension == 0) continue;
    const Status reported = status[i];
    std::memset(status_->data(), 0, status_->bytes());
    refuse(*plan_.steps[static_cast<std::size_t>(gpu_.schedule.reporting[i])].op, reported);
  }
}

void sum_times(std::span<const Launch> launches, std::span<const bool> skipped,
               std::span<const GpuTime> gpu_times, std::span<StepTime> times) {
  constexpr std::int64_t kUnknown = -1;
  std::fill(times.begin(), times.end(), StepTime{kUnknown, 0});
  std::int64_t origin = kUnknown, now = 0;  // now: where the launch before this one ended
  for (std::size_t i = 0; i < launches.size(); ++i) {
    StepTime& time = times[static_cast<std::size_t>(launches[i].step)];
    if (!skipped.empty() && skipped[i]) {
      if (time.start == kUnknown) time.start = now;
      continue;
    }
    const GpuTime& launch = gpu_times[i];
    if (origin == kUnknown) origin = launch.start;
    if (time.nanoseconds == 0) time.start = launch.start - origin;
    time.nanoseconds += launch.end - launch.start;
    now = launch.end - origin;
  }
  for (StepTime& time : times) {
    if (time.start == kUnknown) time.start = 0;  // a step without launches
  }
}

}  // namespace npu::gpu
