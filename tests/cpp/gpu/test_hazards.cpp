// Barriers: as many as are needed and no more; schedules of small programs for a chip on paper.
#include <random>

#include "core/plan/plan.h"
#include "gpu/device/gpu_runner.h"
#include "gpu/device/kernel_sources.h"
#include "gpu/plan/gpu_kernel.h"
#include "gpu/plan/hazards.h"
#include "metal/args.h"
#include "npu/npu.h"
#include "support/check.h"
#include "support/sample_programs.h"

using namespace npu;
using namespace npu::gpu;
using namespace npu::test;

namespace {

bool meet(const Touched& a, const Touched& b) {
  for (std::int64_t byte = a.low; byte < a.high; ++byte) {
    if (a.space == b.space && b.low <= byte && byte < b.high && (a.writes || b.writes)) return true;
  }
  return false;
}

bool meet(const std::vector<Touched>& a, const std::vector<Touched>& b) {
  for (const auto& x : a) {
    for (const auto& y : b) {
      if (meet(x, y)) return true;
    }
  }
  return false;
}

std::vector<Touched> some_bytes(std::mt19937& random) {
  std::vector<Touched> touched(1 + random() % 4);
  for (auto& touch : touched) {
    touch.space = static_cast<int>(random() % 3);
    touch.low = static_cast<std::int64_t>(random() % 60);
    touch.high = touch.low + static_cast<std::int64_t>(random() % 9);
    touch.writes = random() % 3 == 0;
    touch.reads = !touch.writes;
  }
  return touched;
}

}  // namespace

TEST(gpu_hazards, barriers_are_those_that_are_needed) {
  std::mt19937 random(5);
  for (int round = 0; round < 200; ++round) {
    Hazards hazards;
    std::vector<std::vector<Touched>> since;
    for (int launch = 0; launch < 30; ++launch) {
      const std::vector<Touched> touched = some_bytes(random);
      bool needed = false;
      for (const auto& before : since) needed = needed || meet(before, touched);
      CHECK_EQ(hazards.next(touched), needed);
      if (needed) since.clear();
      since.push_back(touched);
    }
  }
}

// Whoever meets an earlier launch waits for it, perhaps through others; nobody waits without need, or twice.
TEST(gpu_hazards, launches_wait_for_those_that_they_meet) {
  std::mt19937 random(6);
  for (int round = 0; round < 200; ++round) {
    Dependencies dependencies;
    std::vector<std::vector<Touched>> all;
    std::vector<std::vector<bool>> waits;  // by launch: for which, in the end
    for (std::size_t launch = 0; launch < 40; ++launch) {
      all.push_back(some_bytes(random));
      waits.emplace_back(launch, false);
      const std::vector<int> after = dependencies.next(all.back());
      for (const int one : after) {
        const auto earlier = static_cast<std::size_t>(one);
        CHECK(meet(all[earlier], all[launch]));
        CHECK(!waits[launch][earlier]);
        for (std::size_t i = 0; i < earlier; ++i) {
          if (waits[earlier][i]) waits[launch][i] = true;
        }
      }
      for (const int one : after) CHECK(!waits[launch][static_cast<std::size_t>(one)]);
      for (const int one : after) waits[launch][static_cast<std::size_t>(one)] = true;
      for (std::size_t i = 0; i < launch; ++i) CHECK(waits[launch][i] || !meet(all[i], all[launch]));
    }
  }
}

namespace {

// Two branches that may run side by side, and what reads both.
const char* const kBranches = R"({
  "model_name": "branches",
  "values": [
    {"name": "x", "dtype": "float32", "shape": [8, 100]}, {"name": "a", "dtype": "float32", "shape": [8, 100]},
    {"name": "b", "dtype": "float32", "shape": [8, 100]}, {"name": "y", "dtype": "float32", "shape": [8, 100]}],
  "inputs": [{"name": "x", "value": 0}],
  "outputs": [{"name": "y", "value": 3}],
  "main": [
    {"op": "softmax", "name": "one", "in": [0], "out": [1], "attrs": {"axis": 1}},
    {"op": "softmax", "name": "two", "in": [0], "out": [2], "attrs": {"axis": 1, "log": true}},
    {"op": "map", "name": "add", "in": [1, 2], "out": [3],
     "attrs": {"expr": [["in", 0], ["in", 1], ["add", 0, 1]]}}]
})";

Plan plan_of(const char* json, const char* device = "metal:m4pro") {
  return Plan(Program::parse(program_file(json)), Device::open(device), 1);
}

}  // namespace

TEST(gpu_hazards, branches_share_no_barrier) {
  const Plan plan = plan_of(kBranches);
  const auto& gpu = static_cast<const GpuPlan&>(*plan.device_plan);
  CHECK_EQ(gpu.schedule.launches.size(), 3u);
  CHECK(!gpu.schedule.launches[0].barrier);
  CHECK(!gpu.schedule.launches[1].barrier);
  CHECK(gpu.schedule.launches[2].barrier);
  CHECK(gpu.schedule.launches[1].after.empty());
  CHECK_EQ(gpu.schedule.launches[2].after.size(), 2u);
  CHECK_EQ(gpu.schedule.pipelines.size(), 3u);  // a constant tells softmax from its logarithm
  CHECK_EQ(gpu.estimate.total.read, 4.0 * 3200);
  CHECK_EQ(gpu.estimate.total.written, 3.0 * 3200);
  CHECK_EQ(gpu.estimate.least_bytes, 7.0 * 3200);
  CHECK(gpu.estimate.total.seconds > 0);
  CHECK(plan.text().find("3 dispatches") != std::string::npos);
}

TEST(gpu_hazards, paper_runs_nothing) {
  const Executor executor(Program::parse(program_file(kBranches)), Device::open("metal:m1"));
  CHECK_EQ(executor.summary().dispatches, 3);
  const Buffer x = Buffer::allocate(DType::kFloat32, {8, 100}, true);
  CHECK_THROWS(executor.run(std::vector<Buffer>{x}, Weights()), "not a device of this machine");
  CHECK_THROWS(Device::open("metal:m0"), "'metal:m4pro'");
}

// A convolution's result has channels innermost, where neither view can be expressed.
TEST(gpu_hazards, views_that_go_backwards_are_copied_wherever_they_lie) {
  const Plan plan = plan_of(R"({
    "model_name": "backwards",
    "values": [
      {"name": "x", "dtype": "float32", "shape": [1, 4, 2, 4]}, {"name": "p", "dtype": "float32", "shape": [1, 4, 2, 4]},
      {"name": "y", "dtype": "float32", "shape": [32]}, {"name": "z", "dtype": "float32", "shape": [32]},
      {"name": "w", "dtype": "float32", "shape": [4, 4, 1, 1]}],
    "inputs": [{"name": "x", "value": 0}],
    "outputs": [{"name": "y", "value": 2}, {"name": "z", "value": 3}],
    "weights": [{"name": "w", "value": 4}],
    "main": [
      {"op": "conv", "name": "conv", "in": [0, 4], "out": [1],
       "attrs": {"stride": [1, 1], "padding_low": [0, 0], "padding_high": [0, 0], "dilation": [1, 1],
                 "input_dilation": [1, 1], "groups": 1}},
      {"op": "softmax", "name": "backwards", "in": [[1, [32], [-1], 31]], "out": [2], "attrs": {"axis": 0}},
      {"op": "softmax", "name": "forwards", "in": [[1, [32], [1], 0]], "out": [3], "attrs": {"axis": 0}}]
  })");
  CHECK(plan.values[1].layout == Layout::kChannelsLast);
  CHECK_EQ(plan.steps.size(),
           7u);  // x for the convolution; its result for each softmax, and once turned round
  for (const Step& step : plan.steps) {
    if (step.op->kind == OpKind::kSoftmax) CHECK_EQ(step.input_descs[0].strides[0], 1);
  }
}

TEST(gpu_hazards, results_that_go_backwards_are_copied_there) {
  const Plan plan = plan_of(R"({
    "model_name": "backwards",
    "values": [
      {"name": "x", "dtype": "float32", "shape": [4, 8]}, {"name": "y", "dtype": "float32", "shape": [4, 8]},
      {"name": "z", "dtype": "float32", "shape": [4, 8]}],
    "inputs": [{"name": "x", "value": 0}],
    "outputs": [{"name": "y", "value": 1}, {"name": "z", "value": 2}],
    "main": [
      {"op": "softmax", "name": "soft", "in": [0], "out": [[1, [4, 8], [8, -1], 7]], "attrs": {"axis": 1}},
      {"op": "copy", "name": "turn", "in": [0], "out": [[2, [4, 8], [8, -1], 7]]}]
  })");
  CHECK_EQ(plan.steps.size(), 3u);
  CHECK_EQ(plan.steps[0].output_descs[0].strides[1], 1);
  CHECK(plan.steps[1].made_for_layout);
  CHECK_EQ(plan.steps[1].output_descs[0].strides[1], -1);
  CHECK_EQ(plan.steps[2].output_descs[0].strides[1], -1);
}

TEST(gpu_hazards, sources_are_whole_and_hold_each_file_once) {
  const std::string source = kernel_source("softmax");
  CHECK(source.find("#include \"") == std::string::npos);
  const std::size_t first = source.find("struct SoftmaxArgs {");
  CHECK(first != std::string::npos);
  CHECK(source.find("struct SoftmaxArgs {", first + 1) == std::string::npos);
  CHECK_THROWS(kernel_source("nonsense"), "no kernel file");
}
