// Runs the schedule of a plan.
#pragma once

#include <memory>
#include <vector>

#include "core/plan/device_backend.h"
#include "gpu/plan/estimate.h"
#include "gpu/plan/schedule.h"

namespace npu::gpu {

// Shared by the sessions of a plan.
struct GpuPlan final : DevicePlan {
  GpuPlan(const Plan& plan, Driver& driver)
      : schedule(plan, driver.caps()),
        chip(driver.caps().chip),
        estimate(plan, schedule, chip),
        resources(plan),
        pipelines(driver.compile(schedule.pipelines)) {}
  std::string text() const override { return estimate.text(schedule, chip); }
  void summarize(PlanSummary& summary) const override;

  Schedule schedule;
  const Chip* chip;  // null if it is none that we know
  Estimate estimate;
  Resources resources;
  std::vector<std::shared_ptr<const Pipeline>> pipelines;  // as in schedule.pipelines
};

// A step lasts from the start of its first launch to the end of its last. Launches that were skipped have no
// times; a step of which all were takes none, where the one before it ended.
void sum_times(std::span<const Launch> launches, std::span<const bool> skipped,
               std::span<const GpuTime> gpu_times, std::span<StepTime> times);

class GpuRunner final : public Runner {
 public:
  GpuRunner(const Plan& plan, std::shared_ptr<Driver> driver);
  void run(const RunAddresses& addresses, std::span<StepTime> times) override;
  void run_step(const RunAddresses& addresses, std::size_t step) override;
  void settle() override { recording_->settle(); }

 private:
  void bind_resources(const RunAddresses& addresses);
  void find_skipped(const RunAddresses& addresses);
  void check_status() const;
  std::span<const bool> skipped() const {
    return {skipped_.get(), skipped_ ? gpu_.schedule.launches.size() : 0};
  }

  const Plan& plan_;
  const GpuPlan& gpu_;
  std::shared_ptr<Driver> driver_;
  std::shared_ptr<Memory> status_, nothing_;
  std::unique_ptr<Recording> recording_;
  std::vector<Address> resources_;
  std::vector<std::size_t> skippable_;  // launches
  std::unique_ptr<bool[]> skipped_;     // by launch; null when none ever is
  std::vector<GpuTime> gpu_times_;
};

}  // namespace npu::gpu
