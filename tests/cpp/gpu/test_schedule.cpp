// What a device's limits make of a launch: it is planned as it is, as a line, or refused before it is
// compiled.
#include "core/plan/plan.h"
#include "cuda/device/chips.h"
#include "gpu/plan/gpu_kernel.h"
#include "gpu/plan/schedule.h"
#include "npu/npu.h"
#include "support/check.h"
#include "support/sample_programs.h"

using namespace npu;
using namespace npu::gpu;
using namespace npu::test;

namespace {

const char* const kSoftmax = R"({
  "model_name": "limits",
  "values": [{"name": "x", "dtype": "float32", "shape": [8, 100]}, {"name": "y", "dtype": "float32", "shape": [8, 100]}],
  "inputs": [{"name": "x", "value": 0}],
  "outputs": [{"name": "y", "value": 1}],
  "main": [{"op": "softmax", "name": "soft", "in": [0], "out": [1], "attrs": {"axis": 1}}]
})";

const Caps kH200 = cuda::caps_of(*find_chip(cuda::kChips, "h200"));

// A plan of one launch, which tests change.
class OneLaunch {
 public:
  OneLaunch() : plan_(Program::parse(program_file(kSoftmax)), Device::open("cuda:h200"), 1) {}

  Dispatch& dispatch() { return static_cast<GpuKernel&>(*plan_.steps[0].kernel).edit()[0]; }

  bool is_line(Size groups, Size threads = {32, 1, 1}) {
    dispatch().grid(groups, threads);
    const Schedule schedule(plan_, kH200);
    return schedule.pipelines[static_cast<std::size_t>(schedule.launches[0].pipeline)].as_line;
  }

  Schedule with(const Caps& caps = kH200) { return {plan_, caps}; }

 private:
  Plan plan_;
};

}  // namespace

TEST(gpu_schedule, threadgroups_have_limits_along_each_axis) {
  OneLaunch launch;
  CHECK(!launch.is_line({1, 1, 1}, {1, 1, 64}));
  CHECK(!launch.is_line({1, 1, 1}, {1024, 1, 1}));
  CHECK_THROWS(
      launch.is_line({1, 1, 1}, {1, 1, 65}),
      "a threadgroup of the launch softmax_dense_float of soft is too large; got 1 x 1 x 65; expected at "
      "most 1024 x 1024 x 64");
  CHECK_THROWS(launch.is_line({1, 1, 1}, {1, 1025, 1}), "got 1 x 1025 x 1");
}

TEST(gpu_schedule, threadgroups_have_a_limit_of_threads) {
  OneLaunch launch;
  CHECK(!launch.is_line({1, 1, 1}, {16, 1, 64}));
  CHECK_THROWS(launch.is_line({1, 1, 1}, {17, 1, 64}), "got 17 x 1 x 64; expected at most 1024 threads");
  Caps small = kH200;
  small.threads_per_group = 512;
  launch.dispatch().grid({1, 1, 1}, {32, 17, 1});
  CHECK_THROWS(launch.with(small), "expected at most 512 threads");
}

TEST(gpu_schedule, threadgroup_memory_has_a_limit) {
  OneLaunch launch;
  Caps caps = kH200;
  launch.dispatch().threadgroup_bytes = caps.tensor_bytes;
  CHECK_EQ(launch.with(caps).dispatches, 1);
  caps.tensor_bytes = caps.stream_bytes = 0;
  launch.dispatch().threadgroup_bytes = caps.threadgroup_bytes;
  CHECK_EQ(launch.with(caps).dispatches, 1);
  launch.dispatch().threadgroup_bytes += 16;
  CHECK_THROWS(
      launch.with(caps),
      "the threadgroup memory of the launch softmax_dense_float of soft is too large; got 32784 bytes; "
      "expected at most 32768");
}

TEST(gpu_schedule, grids_that_are_too_long_are_lines) {
  OneLaunch launch;
  CHECK(!launch.is_line({0x7fffffff, 1, 1}));
  CHECK(!launch.is_line({2, 65535, 65535}));
  CHECK(launch.is_line({1, 65536, 1}));
  CHECK(launch.is_line({1, 1, 65536}));
  CHECK(launch.is_line({32767, 65536, 1}));
  CHECK_THROWS(launch.is_line({32768, 65536, 1}),
               "got 32768 x 65536 x 1; expected at most 2147483647 threadgroups");
  CHECK_THROWS(launch.is_line({0x80000000u, 1, 1}), "the grid of the launch");
}

TEST(gpu_schedule, a_line_is_another_pipeline_than_the_grid) {
  OneLaunch launch;
  launch.dispatch().grid({1, 65535, 1}, {32, 1, 1});
  const PipelineKey grid = launch.with().pipelines[0];
  launch.dispatch().grid({1, 65536, 1}, {32, 1, 1});
  const PipelineKey line = launch.with().pipelines[0];
  CHECK(!(grid == line));
  CHECK(grid.function == line.function);
}
