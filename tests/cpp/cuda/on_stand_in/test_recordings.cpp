// Plans as graphs: built once for each set of skipped launches, updated where addresses moved, with all edges
// that memory asks for.
#include <algorithm>
#include <map>
#include <random>
#include <sstream>

#include "core/plan/plan.h"
#include "core/run/session.h"
#include "cpu/cpu_device.h"
#include "cuda/device/cuda_device.h"
#include "cuda/device/pipelines.h"
#include "cuda/on_stand_in/machine.h"
#include "gpu/device/gpu_device.h"
#include "gpu/device/gpu_runner.h"
#include "support/step_program.h"

using namespace npu;
using namespace npu::test;

namespace {

Device open() { return Device(gpu::make_device("cuda", cuda::open_driver(0, {}), cpu::open_device())); }

struct Planned {
  explicit Planned(Program program)
      : plan(std::make_shared<const Plan>(std::move(program), open(), 1)),
        session(std::make_shared<Session::Impl>(plan)) {}

  std::vector<Buffer> run(const std::vector<Buffer>& inputs, const Weights& weights = {},
                          std::vector<char> donate = {}) {
    std::vector<Buffer> outputs(plan->model().outputs.size());
    const auto donated = std::make_unique<bool[]>(inputs.size());
    std::copy(donate.begin(), donate.end(), donated.get());
    session.run(inputs, weights, {donated.get(), inputs.size()}, outputs);
    return outputs;
  }
  Buffer tensor(DType dtype, Shape shape) const {
    return plan->device.backend().allocate(dtype, std::move(shape), true);
  }

  std::shared_ptr<const Plan> plan;
  Session session;
};

struct Decoding {
  Planned planned{step_program()};
  Weights weights;
  Buffer x = planned.tensor(DType::kFloat32, {2, 64}), at = planned.tensor(DType::kInt64, {1});

  Decoding() { weights.set("w", filled({48, 64}, -1, 0.1F)); }
};

struct Node {
  std::string kernel;
  std::vector<std::uint64_t> addresses;
  std::vector<std::size_t> after, overlapped;
};

std::vector<Node> nodes_of(const std::string& text) {
  std::vector<Node> nodes;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    Node node;
    std::istringstream words(line);
    words >> node.kernel;
    std::string word;
    while (words >> word && word != "after") node.addresses.push_back(std::stoull(word));
    while (words >> word && word != "overlapping") node.after.push_back(std::stoul(word));
    while (words >> word) node.overlapped.push_back(std::stoul(word));
    nodes.push_back(std::move(node));
  }
  return nodes;
}

struct Range {
  std::uint64_t low = 0, high = 0;
  bool writes = false;
};

// The bytes that a launch may touch, from the addresses that its node was given.
std::vector<Range> ranges_of(const Node& node, const gpu::Launch& launch, const gpu::GpuPlan& plan) {
  const auto& pipeline =
      static_cast<const cuda::CudaPipeline&>(*plan.pipelines[static_cast<std::size_t>(launch.pipeline)]);
  std::vector<Range> ranges;
  std::size_t next = 0;
  for (const cuda::CudaPipeline::Parameter& parameter : pipeline.parameters()) {
    const auto& uses = launch.dispatch->buffers;
    const auto use = std::find_if(uses.begin(), uses.end(),
                                  [&](const gpu::BufferUse& one) { return one.slot == parameter.slot; });
    if (parameter.args || use == uses.end()) continue;
    const std::uint64_t address = node.addresses.at(next++);
    if (use->reads || use->writes) {
      ranges.push_back({address + static_cast<std::uint64_t>(use->low),
                        address + static_cast<std::uint64_t>(use->high), use->writes});
    }
  }
  CHECK_EQ(next, node.addresses.size());
  return ranges;
}

bool meet(const std::vector<Range>& a, const std::vector<Range>& b) {
  for (const Range& x : a) {
    for (const Range& y : b) {
      if ((x.writes || y.writes) && std::max(x.low, y.low) < std::min(x.high, y.high)) return true;
    }
  }
  return false;
}

// Every two launches that touch the same bytes, one of them writing, are ordered. Says how many pairs are
// free to run side by side.
std::size_t check_edges(const Planned& planned, const std::string& graph) {
  const auto& plan = static_cast<const gpu::GpuPlan&>(*planned.plan->device_plan);
  const std::vector<Node> nodes = nodes_of(graph);
  CHECK_EQ(nodes.size(), plan.schedule.launches.size());
  std::vector<std::vector<Range>> ranges;
  std::vector<std::vector<bool>> waits;
  std::size_t free = 0;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    ranges.push_back(ranges_of(nodes[i], plan.schedule.launches[i], plan));
    waits.emplace_back(i, false);
    for (const std::size_t earlier : nodes[i].after) {
      waits[i][earlier] = true;
      for (std::size_t k = 0; k < earlier; ++k) waits[i][k] = waits[i][k] || waits[earlier][k];
    }
    for (std::size_t k = 0; k < i; ++k) {
      if (waits[i][k]) continue;
      ++free;
      CHECK(!meet(ranges[k], ranges[i]));
    }
  }
  return free;
}

// Softmaxes and sums of earlier values, in an order that keeps several branches alive.
std::string random_program(std::mt19937& random, int ops) {
  std::string values = R"({"name": "v0", "dtype": "float32", "shape": [8, 100]})", main;
  for (int v = 1; v <= ops; ++v) {
    const auto name = "v" + std::to_string(v);
    values += R"(, {"name": ")" + name + R"(", "dtype": "float32", "shape": [8, 100]})";
    const auto a = std::to_string(random() % static_cast<unsigned>(v));
    const auto b = std::to_string(random() % static_cast<unsigned>(v));
    main += v > 1 ? "," : "";
    main += random() % 2 == 0
                ? R"({"op": "softmax", "name": ")" + name + R"(", "in": [)" + a + R"(], "out": [)" +
                      std::to_string(v) + R"(], "attrs": {"axis": 1}})"
                : R"({"op": "map", "name": ")" + name + R"(", "in": [)" + a + "," + b + R"(], "out": [)" +
                      std::to_string(v) + R"(], "attrs": {"expr": [["in", 0], ["in", 1], ["add", 0, 1]]}})";
  }
  return R"({"model_name": "branches", "values": [)" + values +
         R"(], "inputs": [{"name": "x", "value": 0}], "outputs": [{"name": "y", "value": )" +
         std::to_string(ops) + R"(}], "main": [)" + main + "]}";
}

}  // namespace

TEST(cuda_recordings, later_runs_replay_one_graph) {
  const StandIn& machine = StandIn::get();
  Decoding step;
  step.planned.run({step.x, {}, step.at}, step.weights);
  const long launches = machine.count("launches");
  CHECK(launches > 2);
  CHECK_EQ(machine.count("graphs"), 0);
  for (int i = 0; i < 5; ++i) step.planned.run({step.x, {}, step.at}, step.weights);
  CHECK_EQ(machine.count("graphs"), 1);
  CHECK_EQ(machine.count("graph_launches"), 5);
  CHECK_EQ(machine.count("graph_updates"), 0);
  CHECK_EQ(machine.findings(), "");
}

TEST(cuda_recordings, graphs_follow_addresses_that_move) {
  const StandIn& machine = StandIn::get();
  Decoding step;
  const Buffer other = step.planned.tensor(DType::kFloat32, {2, 64});
  for (int i = 0; i < 3; ++i) step.planned.run({step.x, {}, step.at}, step.weights);
  const auto has = [&](const Buffer& x) {
    const std::vector<Node> nodes = nodes_of(machine.graph());
    return std::any_of(nodes.begin(), nodes.end(), [&](const Node& node) {
      return std::find(node.addresses.begin(), node.addresses.end(),
                       reinterpret_cast<std::uint64_t>(x.data())) != node.addresses.end();
    });
  };
  CHECK(has(step.x) && !has(other));
  step.planned.run({other, {}, step.at}, step.weights);
  CHECK(has(other) && !has(step.x));
  CHECK_EQ(machine.count("graph_updates"), 1);
  CHECK_EQ(machine.count("graphs"), 1);
  CHECK_EQ(machine.findings(), "");
}

TEST(cuda_recordings, an_update_that_fails_leaves_nothing_half_done) {
  const StandIn& machine = StandIn::get();
  Decoding step;
  for (int i = 0; i < 3; ++i) step.planned.run({step.x, {}, step.at}, step.weights);
  {
    const Buffer other = step.planned.tensor(DType::kFloat32, {2, 64});
    machine.set("refuse_update", 1);
    CHECK_THROWS(step.planned.run({other, {}, step.at}, step.weights), "updating ");
  }
  for (int i = 0; i < 2; ++i) step.planned.run({step.x, {}, step.at}, step.weights);
  CHECK_EQ(machine.count("graphs"), 2);
  CHECK_EQ(machine.findings(), "");
}

TEST(cuda_recordings, each_set_of_skipped_launches_has_its_graph) {
  const StandIn& machine = StandIn::get();
  Decoding step;
  for (int i = 0; i < 6; ++i) {
    const Buffer cache = step.planned.tensor(DType::kFloat32, {4, 48});
    const bool donate = i % 2 == 0;
    step.planned.run({step.x, cache, step.at}, step.weights, {0, donate ? char{1} : char{0}, 0});
    const auto nodes = nodes_of(machine.graph()).size();
    const auto launches = static_cast<const gpu::GpuPlan&>(*step.planned.plan->device_plan).schedule.launches;
    if (i > 0) CHECK_EQ(nodes, launches.size() - (donate ? 1 : 0));
  }
  CHECK_EQ(machine.count("graphs"), 2);
  CHECK_EQ(machine.findings(), "");
}

TEST(cuda_recordings, edges_are_those_that_memory_asks_for) {
  const StandIn& machine = StandIn::get();
  std::mt19937 random(9);
  std::size_t free = 0;
  for (int round = 0; round < 20; ++round) {
    Planned planned(Program::parse(program_file(random_program(random, 25))));
    const Buffer x = planned.tensor(DType::kFloat32, {8, 100});
    for (int i = 0; i < 2; ++i) planned.run({x});
    free += check_edges(planned, machine.graph());
  }
  CHECK(free > 20);
  CHECK_EQ(machine.findings(), "");
}

TEST(cuda_recordings, small_launches_after_one_other_overlap_with_it) {
  const StandIn& machine = StandIn::get();
  // Maps of few and of many elements, and one that comes after two others.
  const auto overlapped = [&](const std::string& rows, const std::string& second) {
    const std::string shape = R"(", "dtype": "float32", "shape": [)" + rows + "]}";
    const auto map = [](const std::string& name, const std::string& in, const std::string& out) {
      return R"({"op": "softmax", "name": ")" + name + R"(", "in": [)" + in + R"(], "out": [)" + out +
             R"(], "attrs": {"axis": 1}})";
    };
    Planned planned(Program::parse(program_file(
        R"({"model_name": "small", "values": [{"name": "x)" + shape + R"(, {"name": "a)" + shape +
        R"(, {"name": "b)" + shape + R"(, {"name": "c)" + shape +
        R"(], "inputs": [{"name": "x", "value": 0}], "outputs": [{"name": "c", "value": 3}], "main": [)" +
        map("a", "0", "1") + ", " + map("b", second, "2") +
        R"(, {"op": "map", "name": "c", "in": [1, 2], "out": [3],)"
        R"( "attrs": {"expr": [["in", 0], ["in", 1], ["add", 0, 1]]}}]})")));
    const Buffer x = planned.tensor(DType::kFloat32, {std::stol(rows), 64});
    for (int i = 0; i < 2; ++i) planned.run({x});
    std::vector<std::vector<std::size_t>> lists;
    for (const Node& node : nodes_of(machine.graph())) lists.push_back(node.overlapped);
    return lists;
  };
  using Lists = std::vector<std::vector<std::size_t>>;
  CHECK(overlapped("8, 64", "1") == Lists({{}, {0}, {1}}));    // c comes after b, and so after a
  CHECK(overlapped("8, 64", "0") == Lists({{}, {}, {}}));      // after two
  CHECK(overlapped("90000, 64", "1") == Lists({{}, {}, {}}));  // larger than the GPU
  CHECK_EQ(machine.findings(), "");
}

TEST(cuda_recordings, settled_runs_have_their_arguments_in_the_code) {
  const StandIn& machine = StandIn::get();
  Decoding step;
  for (int i = 0; i < 3; ++i) step.planned.run({step.x, {}, step.at}, step.weights);
  const auto before = nodes_of(machine.graph());
  const long modules = machine.count("modules");
  step.planned.session.settle();
  CHECK(machine.count("modules") > modules);
  step.planned.run({step.x, {}, step.at}, step.weights);
  CHECK_EQ(machine.count("graphs"), 2);
  const auto after = nodes_of(machine.graph());
  CHECK_EQ(before.size(), after.size());
  for (std::size_t i = 0; i < before.size(); ++i) CHECK(before[i].addresses == after[i].addresses);
  const long once = machine.count("modules");
  Session other(std::make_shared<Session::Impl>(step.planned.plan));  // has the same kernels
  std::vector<Buffer> outputs(2);
  for (int i = 0; i < 2; ++i) {
    other.run(std::vector<Buffer>{step.x, {}, step.at}, step.weights, {}, outputs);
    other.settle();
  }
  CHECK_EQ(machine.count("modules"), once);
  CHECK_EQ(machine.findings(), "");
}

TEST(cuda_recordings, ten_thousand_runs_allocate_nothing) {
  const StandIn& machine = StandIn::get();
  Decoding step;
  const auto run = [&] { step.planned.run({step.x, {}, step.at}, step.weights); };
  for (int i = 0; i < 3; ++i) run();
  step.planned.session.settle();
  run();
  const char* const counted[] = {"allocations", "host_allocations", "frees",  "streams",
                                 "events",      "modules",          "graphs", "graph_updates"};
  std::map<std::string, long> before;
  for (const char* const name : counted) before[name] = machine.count(name);
  for (int i = 0; i < 10'000; ++i) run();
  for (const char* const name : counted) CHECK_EQ(machine.count(name), before[name]);
  CHECK_EQ(machine.findings(), "");
}

TEST(cuda_recordings, a_plan_may_go_while_its_kernels_are_compiled) {
  const StandIn& machine = StandIn::get();
  for (int round = 0; round < 20; ++round) {
    Decoding step;
    for (int i = 0; i < 9; ++i) step.planned.run({step.x, {}, step.at}, step.weights);
  }
  CHECK_EQ(machine.findings(), "");
}
