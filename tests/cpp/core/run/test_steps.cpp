// Single steps of a plan give what a run gives, and refuse what does not fit.
#include <cstring>
#include <map>
#include <vector>

#include "npu/npu.h"
#include "support/check.h"
#include "support/step_program.h"

using namespace npu;
using namespace npu::test;

namespace {

enum Value : std::uint8_t { kX, kW, kW2, kOne, kH, kY, kCache, kAt, kCacheOut };

bool same(const Buffer& a, const Buffer& b) {
  const Buffer x = a.to_host(), y = b.to_host();
  return x.bytes() == y.bytes() && std::memcmp(x.data(), y.data(), x.bytes()) == 0;
}

std::vector<int> all_of(const std::vector<PlannedStep>& steps) {
  std::vector<int> numbers;
  for (std::size_t s = 0; s < steps.size(); ++s) numbers.push_back(static_cast<int>(s));
  return numbers;
}

}  // namespace

TEST(steps, give_what_a_run_gives) {
  const Program program = step_program();
  const Executor executor(program, Device::open("cpu"), {2});
  Weights weights;
  weights.set("w", filled({48, 64}, -0.3f, 0.05f));
  const Buffer x = filled({2, 64}, 0.2f, -0.02f), cache = filled({4, 48}, 7, 0);
  const auto outputs = executor.run(std::vector<Buffer>{x, cache, position(2)}, weights);

  Steps steps = executor.steps();
  CHECK(steps.prepare().size() == 1 && steps.prepare()[0].ops == std::vector<std::string>{"double"});
  CHECK(steps.prepare()[0].reads == std::vector<int>{kW} &&
        steps.prepare()[0].writes == std::vector<int>{kW2});
  const std::vector<int> first = {0}, doubled = {kW2};
  const Buffer w2 = steps.run_prepare(first, {{kW, weights.get("w")}}, doubled)[0];

  // Each alone, on the results of those before.
  std::map<int, Buffer> known = {
      {kX, x}, {kW2, w2}, {kOne, program.constant("one")}, {kCache, cache}, {kAt, position(2)}};
  for (const int s : all_of(steps.main())) {
    const PlannedStep& step = steps.main()[static_cast<std::size_t>(s)];
    CHECK(!step.kernel.empty() && step.ops.size() == 1 && step.writes.size() == 1);
    const std::vector<int> one = {s};
    known[step.writes[0]] = steps.run(one, known, step.writes)[0];
  }
  CHECK(same(known[kY], outputs[0]) && same(known[kCacheOut], outputs[1]));
  CHECK(static_cast<float*>(cache.data())[2 * 48] == 7);  // what was given stays as it is

  // All at once, from the same tensors.
  for (const int v : {kH, kY, kCacheOut}) known.erase(v);
  const std::vector<int> wanted = {kCacheOut, kH, kY};
  const auto together = steps.run(all_of(steps.main()), known, wanted);
  CHECK(same(together[0], outputs[1]) && same(together[2], outputs[0]));
}

TEST(steps, refuse_what_does_not_fit) {
  const Executor executor(step_program(), Device::open("cpu"), {1});
  Steps steps = executor.steps();
  const Buffer x = filled({2, 64}, 0, 1);
  const std::vector<int> first = {0}, none, missing = {9}, h = {kH};
  CHECK_THROWS(steps.run(missing, {}, none), "there is no such step; got 9; expected from 0 to 2");
  CHECK_THROWS(steps.run(first, {{kX, x}}, h),
               "a tensor that a step reads is missing; got \"w2\" of \"product\"");
  CHECK_THROWS(steps.run(first, {{kX, filled({64}, 0, 1)}}, h),
               "the tensor for \"x\" does not fit; got float32[64]; expected float32[2, 64]");
  CHECK_THROWS(steps.run(first, {{kX, Buffer()}}, h), "got nothing");
  CHECK_THROWS(steps.run(first, {{-1, x}}, h), "there is no such value; got -1");
  CHECK_THROWS(steps.run(none, {}, h), "the steps do not write this value; got 4");
}

TEST(steps, random_weights_one_by_one) {
  const Program program = step_program();
  const Weights all = Weights::random(program, 3), one = Weights::random(program, 3, "w");
  CHECK(same(all.get("w"), one.get("w")) && one.names().size() == 1);
  CHECK(Weights::random(program, 3, "v").names().empty());
}
