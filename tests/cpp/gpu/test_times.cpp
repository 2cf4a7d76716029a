// What profiles say of a run from the times of its launches.
#include "gpu/device/gpu_runner.h"
#include "support/check.h"

using namespace npu;
using namespace npu::gpu;

namespace {

std::vector<Launch> launches_of(const std::vector<int>& steps) {
  std::vector<Launch> launches(steps.size());
  for (std::size_t i = 0; i < steps.size(); ++i) launches[i].step = steps[i];
  return launches;
}

bool is(const StepTime& time, std::int64_t start, std::int64_t nanoseconds) {
  return time.start == start && time.nanoseconds == nanoseconds;
}

}  // namespace

TEST(times, steps_begin_with_their_first_launch) {
  const GpuTime gpu[] = {{1000, 1010}, {1020, 1050}, {1060, 1065}};
  StepTime times[2];
  sum_times(launches_of({0, 0, 1}), {}, gpu, times);
  CHECK(is(times[0], 0, 40));
  CHECK(is(times[1], 60, 5));
}

TEST(times, a_skipped_launch_says_nothing_of_when_a_run_began) {
  const GpuTime gpu[] = {{}, {1000, 1010}, {}, {1020, 1030}};
  const bool skipped[] = {true, false, true, false};
  StepTime times[3];
  sum_times(launches_of({0, 1, 2, 2}), skipped, gpu, times);
  CHECK(is(times[0], 0, 0));
  CHECK(is(times[1], 0, 10));
  CHECK(is(times[2], 20, 10));  // its second launch ran
}

TEST(times, a_skipped_step_takes_no_time_where_the_one_before_ended) {
  const GpuTime gpu[] = {{500, 530}, {}, {540, 550}};
  const bool skipped[] = {false, true, false};
  StepTime times[4];
  sum_times(launches_of({0, 1, 2}), skipped, gpu, times);
  CHECK(is(times[0], 0, 30));
  CHECK(is(times[1], 30, 0));
  CHECK(is(times[2], 40, 10));
  CHECK(is(times[3], 0, 0));  // no launches at all
}
