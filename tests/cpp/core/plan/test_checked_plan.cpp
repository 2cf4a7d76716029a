// NPU_CHECK_PLAN: right plans run, and broken ones are caught.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "core/run/session.h"
#include "npu/npu.h"
#include "support/check.h"
#include "support/sample_programs.h"

using namespace npu;
using namespace npu::test;

namespace {

// y = softmax(-x) + x, the sums of its rows, and a cache that takes y's rows.
const char* const kProgram = R"({
  "model_name": "checked",
  "values": [
    {"name": "x", "dtype": "float32", "shape": [4, 8]}, {"name": "cache", "dtype": "float32", "shape": [4, 8]},
    {"name": "negative", "dtype": "float32", "shape": [4, 8]}, {"name": "soft", "dtype": "float32", "shape": [4, 8]},
    {"name": "rows", "dtype": "int64", "shape": [4]}, {"name": "turned", "dtype": "float32", "shape": [4, 8]},
    {"name": "y", "dtype": "float32", "shape": [4, 8]}, {"name": "sums", "dtype": "float32", "shape": [4, 1]},
    {"name": "updated", "dtype": "float32", "shape": [4, 8]}],
  "inputs": [{"name": "x", "value": 0}, {"name": "cache", "value": 1, "state": true}],
  "outputs": [{"name": "sums", "value": 7}, {"name": "updated", "value": 8, "alias": 1}],
  "main": [
    {"op": "map", "name": "negate", "in": [0], "out": [2], "attrs": {"expr": [["in", 0], ["neg", 0]]}},
    {"op": "softmax", "name": "soften", "in": [2], "out": [3], "attrs": {"axis": 1}},
    {"op": "iota", "name": "number", "in": [], "out": [4], "attrs": {"start": 3, "step": -1}},
    {"op": "scatter", "name": "turn", "in": [3, 2, [4, [4, 8], [1, 0], 0]], "out": [5],
     "attrs": {"kind": "add", "axes": [0], "dims": [-1, 1]}},
    {"op": "map", "name": "join", "in": [5, 2], "out": [6], "attrs": {"expr": [["in", 0], ["in", 1], ["add", 0, 1]]}},
    {"op": "reduce", "name": "sum", "in": [6], "out": [7], "attrs": {"kind": "sum", "axes": [1]}},
    {"op": "scatter", "name": "update", "in": [1, 6, [4, [4, 8], [1, 0], 0]], "out": [8],
     "attrs": {"kind": "set", "axes": [0], "dims": [-1, 1]}}]
})";

enum Value : std::uint8_t { kX, kCache, kNegative, kSoft, kRows, kTurned, kY };

Buffer numbers(const Device& device, float start) {
  Buffer buffer = device.allocate(DType::kFloat32, {4, 8});
  for (std::int64_t i = 0; i < 32; ++i)
    static_cast<float*>(buffer.data())[i] = start + 0.37f * static_cast<float>(i * i % 13);
  return buffer;
}

std::shared_ptr<Plan> plan_for(const std::string& device) {
  return std::make_shared<Plan>(Program::parse(program_file(kProgram)), Device::open(device), 2);
}

// With the cache donated, so that it is updated in place.
std::vector<Buffer> run(const std::shared_ptr<Plan>& plan) {
  const std::vector<Buffer> inputs = {numbers(plan->device, 0.5f), numbers(plan->device, 9)};
  const bool donate[2] = {false, true};
  std::vector<Buffer> outputs(2);
  Session::Impl(plan).run(inputs, Weights(), donate, outputs, false);
  CHECK(outputs[1].data() == inputs[1].data());
  return outputs;
}

std::vector<std::string> devices() {
  std::vector<std::string> devices = {"cpu"};
  try {
    Device::open("metal:emulated");
    devices.emplace_back("metal:emulated");
  } catch (const Error&) {
  }
  return devices;
}

void check_plans(bool on) { setenv("NPU_CHECK_PLAN", on ? "1" : "", 1); }

}  // namespace

TEST(checked_plan, right_plans_give_the_same) {
  for (const std::string& device : devices()) {
    check_plans(false);
    const auto want = run(plan_for(device));
    check_plans(true);
    const auto got = run(plan_for(device));
    for (std::size_t i = 0; i < 2; ++i)
      CHECK(std::memcmp(got[i].data(), want[i].data(), want[i].bytes()) == 0);
  }
}

TEST(checked_plan, steps_that_write_over_what_is_needed_are_named) {
  for (const std::string& device : devices()) {
    const auto plan = plan_for(device);
    plan->values[kSoft].offset = plan->values[kNegative].offset;
    check_plans(false);
    run(plan);  // wrong, and nobody notices
    check_plans(true);
    CHECK_THROWS(run(plan), "of \"soften\", ");
    // The numbers of the rows lie on what is scattered to them.
    const auto second = plan_for(device);
    second->values[kRows].offset = second->values[kSoft].offset + 32;
    CHECK_THROWS(run(second),
                 "of \"number\", writes over a tensor that is still needed; got a difference in \"soft\"");
  }
}

TEST(checked_plan, steps_that_read_what_they_write_are_named) {
  for (const std::string& device : devices()) {
    check_plans(true);
    const auto plan = plan_for(device);
    CHECK_EQ(plan->values[kTurned].memory_of, static_cast<int>(kSoft));
    plan->values[kTurned].offset = plan->values[kNegative].offset;  // the updates
    CHECK_THROWS(run(plan), "step 3, scatter[add] of \"turn\", gives different bits");
  }
}

TEST(checked_plan, the_variable_has_two_values) {
  setenv("NPU_CHECK_PLAN", "yes", 1);
  CHECK_THROWS(Device::open("cpu"), "NPU_CHECK_PLAN has an invalid value; got \"yes\"; expected 0 or 1");
  check_plans(false);
}
