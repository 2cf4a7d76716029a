// Graphs of programs and functions, and what sessions and weights share.
#include <algorithm>
#include <memory>

#include "core/weights/prepare.h"
#include "npu/npu.h"
#include "support/check.h"
#include "support/step_program.h"

using namespace npu;
using namespace npu::test;

namespace {

Executor step() { return Executor(step_program(), Device::open("cpu"), {1}); }

Weights weights() {
  Weights state;
  state.set("w", filled({48, 64}, -0.3f, 0.05f));
  return state;
}

float first(const GraphValue& value) { return *static_cast<const float*>(value.buffer.data()); }

}  // namespace

TEST(graph, passes_values_on) {
  Graph graph({"x", "cache", "at", "y", "after", "sum"}, {5});
  std::vector<const void*> seen;
  graph.add_program(step(), {0, 1, 2}, {3, 4});
  graph.add_host(
      [&](std::span<const GraphValue> in, std::span<GraphValue> out) {
        seen = {in[0].buffer.data(), in[1].foreign.get()};
        out[0].buffer = filled({1}, first(in[0]) + *static_cast<const float*>(in[1].foreign.get()), 0);
      },
      {3, 0}, {5});
  CHECK_EQ(graph.parts(), std::size_t{2});
  CHECK(graph.needs_buffer(0) && !graph.needs_buffer(3));
  std::vector<GraphValue> values(graph.slots());
  const auto thing = std::make_shared<float>(5.0f);
  values[0] = {filled({2, 64}, 0.2f, -0.02f), thing};
  values[1] = {filled({4, 48}, 7, 0), nullptr};
  values[2] = {position(1), nullptr};
  const auto alone =
      step().run(std::vector<Buffer>{values[0].buffer, values[1].buffer, values[2].buffer}, weights());
  const std::vector<Weights> by_part = {weights(), Weights()};
  graph.run(values, by_part);
  CHECK_EQ(first(values[5]), *static_cast<const float*>(alone[0].data()) + 5.0f);
  CHECK(seen.size() == 2 && seen[1] == thing.get());
  for (int slot = 0; slot < 5; ++slot) CHECK(!values[static_cast<std::size_t>(slot)]);
  CHECK_EQ(thing.use_count(), 1);
}

TEST(graph, owned_memory_is_written_in_place_and_copies_are_counted) {
  Graph graph({"x", "cache", "at", "y", "after", "view", "last"}, {3, 6});
  graph.add_program(step(), {0, 1, 2}, {3, 4});
  Buffer view;
  graph.add_host(
      [&](std::span<const GraphValue> in, std::span<GraphValue> out) {
        out[0].buffer = in[0].buffer;  // lives on, and is read after the update
      },
      {4}, {5});
  graph.add_host(
      [&](std::span<const GraphValue> in, std::span<GraphValue>) {
        static_cast<float*>(in[0].buffer.data())[0] = 99;
        view = in[1].buffer;
      },
      {4, 5}, {6}, {{.input = 0, .output = 0}});
  for (const bool owned : {false, true}) {
    std::vector<GraphValue> values(graph.slots());
    const Buffer cache = filled({4, 48}, 7, 0);
    values[0] = {filled({2, 64}, 0.2f, -0.02f), nullptr};
    values[1] = {cache, nullptr, owned};
    values[2] = {position(1), nullptr};
    std::vector<std::int64_t> copied(graph.slots());
    const std::vector<Weights> by_part = {weights(), Weights(), Weights()};
    graph.run(values, by_part, copied);
    const auto bytes = static_cast<std::int64_t>(cache.bytes());
    CHECK_EQ(copied[4], owned ? 0 : bytes);
    CHECK_EQ(copied[6], bytes);  // a view of the old contents lives when it is updated again
    CHECK((first(values[6]) == 99) && first({view, nullptr}) == 7);
    CHECK_EQ(view.data() == cache.data(), owned);
    CHECK_EQ(copied[0] + copied[1] + copied[5], 0);
  }
}

TEST(graph, refuses_what_does_not_fit) {
  CHECK_THROWS(Graph({"a"}, {1}), "a result is not a slot");
  Graph graph({"x", "cache", "at", "y", "after"}, {3});
  CHECK_THROWS(graph.add_program(step(), {0, 1}, {3, 4}), "the number of slots does not match the program");
  CHECK_THROWS(graph.add_program(step(), {0, 1, 9}, {3, 4}),
               "a part names a slot that does not exist; got 9");
  CHECK_THROWS(graph.add_host({}, {-1}, {3}), "a part names a slot that does not exist; got -1");
  CHECK_THROWS(graph.add_host({}, {0}, {3}, {{.input = 1, .output = 0}}),
               "an update names no input or output of the part");
  graph.add_program(step(), {0, 1, 2}, {3, 4});
  std::vector<GraphValue> values(5);
  const std::vector<Weights> by_part = {weights()};
  CHECK_THROWS(graph.run(values, {}), "the number of values or weights is wrong");
  std::vector<std::int64_t> counts(1);
  CHECK_THROWS(graph.run(values, by_part, counts), "the number of counts is wrong");
  values[0].foreign = std::make_shared<int>(1);
  CHECK_THROWS(graph.run(values, by_part), "a program reads \"x\"");
  Graph host({"x", "y"}, {1});
  host.add_host([](std::span<const GraphValue>, std::span<GraphValue>) {}, {0}, {1});
  values.assign(2, {});
  CHECK_THROWS(host.run(values, std::vector<Weights>(1)), "a part reads \"x\"; got nothing");
}

TEST(sharing, sessions_hold_the_same_state) {
  const Executor one = step(), two = step();
  const Weights w = weights();
  const Buffer x = filled({2, 64}, 0.2f, -0.02f);
  Session a = one.session(), b = two.session();
  a.share_state(b);
  CHECK(a.state(1) && a.state(1).data() == b.state(1).data());
  const auto* cache = static_cast<const float*>(a.state(1).data());
  CHECK(std::all_of(cache, cache + 4 * 48, [](float v) { return v == 0; }));
  a.run(std::vector<Buffer>{x, Buffer(), position(0)}, w);
  b.run(std::vector<Buffer>{x, Buffer(), position(2)}, w);
  CHECK(std::equal(cache, cache + 48, cache + 2 * 48));
  CHECK(cache[48] == 0);
  Session c = one.session();
  c.share_state(a);
  CHECK(c.state(1).data() == a.state(1).data());
}

TEST(sharing, plans_hold_the_same_prepared_weights) {
  const Executor one = step(), two = step();
  Weights w = weights();
  CHECK_EQ(w.prepared_bytes(), std::size_t{0});
  one.prepare(w);
  const std::size_t bytes = w.prepared_bytes();
  CHECK(bytes > 0);
  two.prepare(w);
  CHECK_EQ(w.prepared_bytes(), bytes);
  w.set("w", filled({48, 64}, 1, 0));
  CHECK_EQ(w.prepared_bytes(), std::size_t{0});
  const std::vector<Buffer> inputs = {filled({2, 64}, 1, 0), filled({4, 48}, 0, 0), position(0)};
  CHECK_EQ(*static_cast<const float*>(one.run(inputs, w)[0].data()), 129.0f);
  CHECK_EQ(*static_cast<const float*>(two.run(inputs, w)[0].data()), 129.0f);
}

TEST(sharing, weights_give_back_what_an_executor_held) {
  const Weights w = weights();
  {
    const Executor gone = step();
    gone.run(std::vector<Buffer>{filled({2, 64}, 1, 0), Buffer(), position(0)}, w);
    CHECK_EQ(w.state().sessions.size(), std::size_t{1});
    CHECK_EQ(w.state().prepared.size(), std::size_t{1});
  }
  CHECK(w.state().sessions.empty());
  CHECK(w.state().prepared.empty());
}
