// cuGraph*: kernels with what each comes after. A launch of a graph does them in the order in which they were
// added, which every edge agrees with; tests read the edges from stand_in_graph().
#include <algorithm>

#include "cuda/stand_in/control.h"
#include "cuda/stand_in/entry_point.h"

namespace stand_in {

namespace {

struct Node {
  Operation operation;
  std::vector<std::size_t> after;
  std::vector<std::size_t> overlapped;  // of those, what it need not come after the end of
};

struct Graph {
  std::vector<std::unique_ptr<Node>> nodes;
};

// With the nodes of its graph as they were, known by the handles they had there.
struct Exec {
  std::vector<const void*> handles;
  std::vector<Node> nodes;
};

// CUDA_KERNEL_NODE_PARAMS_v2
struct Parameters {
  void* function;
  LaunchShape shape;
  void** parameters;
  void** extra;
  void* kernel;
  void* context;
};

template <class T>
std::vector<std::unique_ptr<T>>& all() {
  static auto* const once = new std::vector<std::unique_ptr<T>>;
  return *once;
}

template <class T>
T* known(World& world, void* handle, const char* what) {
  for (const auto& one : all<T>()) {
    if (one.get() == handle) return one.get();
  }
  world.find(std::string(what) + " is used that there is not, or no more");
  return nullptr;
}

std::string& last_launched() {
  static auto* const once = new std::string;
  return *once;
}

std::string text_of(const Exec& exec) {
  std::string text;
  for (const Node& node : exec.nodes) {
    text += node.operation.name;
    for (const Touch& touch : node.operation.touches) text += " " + std::to_string(touch.address);
    text += " after";
    for (const std::size_t earlier : node.after) text += " " + std::to_string(earlier);
    text += " overlapping";
    for (const std::size_t earlier : node.overlapped) text += " " + std::to_string(earlier);
    text += "\n";
  }
  return text;
}

template <class T>
int destroy(void* handle, const char* what) {
  return call([&](World& world) -> int {
    T* const object = known<T>(world, handle, what);
    if (object == nullptr) return kInvalidValue;
    std::erase_if(all<T>(), [&](const auto& one) { return one.get() == object; });
    return kSuccess;
  });
}

Result describe(World& world, const void* description, int gpu, Operation& operation) {
  const auto& given = *static_cast<const Parameters*>(description);
  return describe_launch(world, *static_cast<const Kernel*>(given.function), given.shape, gpu,
                         given.parameters, operation);
}

}  // namespace

}  // namespace stand_in

using namespace stand_in;

extern "C" {

const char* stand_in_graph() {
  static std::string text;
  const std::lock_guard lock(World::get().mutex);
  text = last_launched();
  return text.c_str();
}

int cuGraphCreate(void** graph, unsigned) {
  return call_on_gpu([&](World&, int) -> int {
    *graph = all<Graph>().emplace_back(std::make_unique<Graph>()).get();
    return kSuccess;
  });
}

int cuGraphDestroy(void* graph) { return destroy<Graph>(graph, "a graph"); }
int cuGraphExecDestroy(void* exec) { return destroy<Exec>(exec, "an executable graph"); }

int cuGraphAddKernelNode_v2(void** node, void* handle, void* const* after, std::size_t count,
                            const void* description) {
  return call_on_gpu([&](World& world, int gpu) -> int {
    Graph* const graph = known<Graph>(world, handle, "a graph");
    if (graph == nullptr) return kInvalidValue;
    auto added = std::make_unique<Node>();
    for (std::size_t i = 0; i < count; ++i) {
      const auto is_it = [&](const auto& one) { return one.get() == after[i]; };
      const auto earlier = std::find_if(graph->nodes.begin(), graph->nodes.end(), is_it);
      if (earlier == graph->nodes.end()) {
        world.find("a node comes after one that its graph does not have");
        return kInvalidValue;
      }
      added->after.push_back(static_cast<std::size_t>(earlier - graph->nodes.begin()));
    }
    if (const Result refusal = try_launch(world)) return refusal;
    if (const Result refusal = describe(world, description, gpu, added->operation)) return refusal;
    *node = graph->nodes.emplace_back(std::move(added)).get();
    return kSuccess;
  });
}

// CUgraphEdgeData
struct Edge {
  unsigned char from_port, to_port, type, reserved[5];
};

int cuGraphAddDependencies_v2(void* handle, void* const* from, void* const* to, const Edge* edges,
                              std::size_t count) {
  return call_on_gpu([&](World& world, int) -> int {
    Graph* const graph = known<Graph>(world, handle, "a graph");
    if (graph == nullptr) return kInvalidValue;
    const auto place = [&](const void* node) {
      const auto is_it = [&](const auto& one) { return one.get() == node; };
      return std::find_if(graph->nodes.begin(), graph->nodes.end(), is_it) - graph->nodes.begin();
    };
    for (std::size_t i = 0; i < count; ++i) {
      const auto earlier = place(from[i]), later = place(to[i]);
      if (later == std::ssize(graph->nodes) || earlier >= later) {
        world.find("an edge is between nodes that its graph does not have, or goes back");
        return kInvalidValue;
      }
      Node& node = *graph->nodes[static_cast<std::size_t>(later)];
      node.after.push_back(static_cast<std::size_t>(earlier));
      if (edges[i].type == 1) node.overlapped.push_back(static_cast<std::size_t>(earlier));
    }
    return kSuccess;
  });
}

int cuGraphInstantiateWithFlags(void** exec, void* handle, unsigned long long) {
  return call_on_gpu([&](World& world, int) -> int {
    const Graph* const graph = known<Graph>(world, handle, "a graph");
    if (graph == nullptr) return kInvalidValue;
    auto made = std::make_unique<Exec>();
    for (const auto& node : graph->nodes) {
      made->handles.push_back(node.get());
      made->nodes.push_back(*node);
    }
    ++world.counters.graphs;
    *exec = all<Exec>().emplace_back(std::move(made)).get();
    return kSuccess;
  });
}

int cuGraphExecKernelNodeSetParams_v2(void* handle, void* node, const void* description) {
  return call_on_gpu([&](World& world, int gpu) -> int {
    Exec* const exec = known<Exec>(world, handle, "an executable graph");
    if (exec == nullptr) return kInvalidValue;
    const auto changed = std::find(exec->handles.begin(), exec->handles.end(), node);
    if (changed == exec->handles.end()) {
      world.find("a node is updated that the graph does not have");
      return kInvalidValue;
    }
    if (++world.counters.graph_updates == world.settings.refuse_update) return kInvalidValue;
    const auto i = static_cast<std::size_t>(changed - exec->handles.begin());
    return describe(world, description, gpu, exec->nodes[i].operation);
  });
}

int cuGraphLaunch(void* handle, void* stream_handle) {
  return call_in_stream(stream_handle, [&](World& world, Stream& stream) -> int {
    const Exec* const exec = known<Exec>(world, handle, "an executable graph");
    if (exec == nullptr) return kInvalidValue;
    ++world.counters.graph_launches;
    last_launched() = text_of(*exec);
    for (const Node& node : exec->nodes) {
      ++world.counters.launches;
      if (const Result refusal = world.enqueue(stream, node.operation)) return refusal;
    }
    return kSuccess;
  });
}

}  // extern "C"
