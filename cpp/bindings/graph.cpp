// Graphs whose host parts are Python functions.
#include <nanobind/nanobind.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bindings/runner.h"
#include "bindings/tensors.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace npu::bindings {

namespace {

// Keeps a Python object wherever the last holder lets go of it.
std::shared_ptr<void> owned(nb::object object) {
  return {object.release().ptr(), [](void* reference) {
            const nb::gil_scoped_acquire acquire;
            Py_DECREF(static_cast<PyObject*>(reference));
          }};
}

nb::object python_value(const GraphValue& value) {
  if (value.foreign) return nb::borrow(static_cast<PyObject*>(value.foreign.get()));
  return nb::cast(PyBuffer{.buffer = value.buffer});
}

// What this thread's run has copied, by slot, for its functions to add to.
class Counting {
 public:
  explicit Counting(std::size_t slots) : bytes(slots, 0), before_(std::exchange(current(), this)) {}
  Counting(const Counting&) = delete;
  Counting& operator=(const Counting&) = delete;
  ~Counting() { current() = before_; }
  static Counting*& current() {
    static thread_local Counting* running = nullptr;
    return running;
  }
  std::vector<std::int64_t> bytes;

 private:
  Counting* before_;
};

class PyGraph {
 public:
  PyGraph(std::vector<std::string> names, const std::vector<std::string>& results)
      : names_(intern(names)), graph_(names, slots_of(names, results)), results_(slots_of(names, results)) {}

  void add_program(const PyExecutor& executor) {
    std::vector<int> inputs, outputs;
    for (const TensorSpec& spec : executor.executor.program().inputs()) inputs.push_back(find(spec.name));
    for (const TensorSpec& spec : executor.executor.program().outputs()) outputs.push_back(slot(spec.name));
    graph_.add_program(executor.executor, std::move(inputs), std::move(outputs));
    if (!device_) device_ = executor.executor.device();
  }

  void add_host(nb::callable run, const std::vector<std::string>& inputs,
                const std::vector<std::string>& outputs, const std::map<std::string, std::string>& updates,
                std::optional<Device> device) {
    std::vector<Graph::Update> updated;
    for (const auto& [output, input] : updates)
      updated.push_back({.input = index_of(inputs, input), .output = index_of(outputs, output)});
    std::vector<int> from, to;
    for (const auto& name : inputs) from.push_back(slot(name));
    for (const auto& name : outputs) to.push_back(slot(name));
    // Owned by a pointer: copies of the function must not touch the object's count without the GIL.
    const std::shared_ptr<void> function = owned(std::move(run));
    graph_.add_host([this, function, to](std::span<const GraphValue> in,
                                         std::span<GraphValue> out) { call(function.get(), to, in, out); },
                    from, to, std::move(updated), std::move(device));
  }

  nb::dict run(const nb::dict& given, nb::handle weights, nb::handle donate, nb::handle copied) const {
    std::vector<GraphValue> values(graph_.slots());
    Counting counting(values.size());
    for (std::size_t s = 0; s < values.size(); ++s) {
      PyObject* const object = PyDict_GetItemWithError(given.ptr(), names_[s].ptr());
      if (object != nullptr) values[s] = value_of(nb::borrow(object), static_cast<int>(s));
    }
    std::vector<Weights> by_part;
    Weights none;
    for (const nb::handle one : weights) by_part.push_back(weights_from(one, none));
    Donations donations;
    if (!donate.is_none()) donations = take_donations(given, donate, values);
    {
      const nb::gil_scoped_release release;
      graph_.run(values, by_part, counting.bytes);
    }
    donations.complete();
    if (!copied.is_none()) report(counting.bytes, copied);
    nb::dict results;
    for (const int s : results_) {
      const GraphValue& value = values[static_cast<std::size_t>(s)];
      if (value) results[names_[static_cast<std::size_t>(s)]] = python_value(value);
    }
    return results;
  }

  std::size_t parts() const { return graph_.parts(); }

 private:
  static std::vector<nb::str> intern(const std::vector<std::string>& names) {
    std::vector<nb::str> all;
    for (const auto& name : names)
      all.push_back(nb::steal<nb::str>(PyUnicode_InternFromString(name.c_str())));
    return all;
  }

  static int index_of(const std::vector<std::string>& names, const std::string& name) {
    const auto match = std::find(names.begin(), names.end(), name);
    return match == names.end() ? -1 : static_cast<int>(match - names.begin());
  }

  static std::vector<int> slots_of(const std::vector<std::string>& names,
                                   const std::vector<std::string>& wanted) {
    std::vector<int> slots;
    for (const auto& name : wanted) slots.push_back(index_of(names, name));
    return slots;
  }

  int find(const std::string& name) const { return index_of(graph_.names(), name); }

  int slot(const std::string& name) const {
    const int index = find(name);
    if (index >= 0) return index;
    throw Error(ErrorKind::kInvalidValue,
                {.area = "graph", .what = "a part names a value that does not exist", .got = quoted(name)});
  }

  // The graph holds what is donated without its object, which says from now on that it is used up.
  Donations take_donations(const nb::dict& given, nb::handle donate, std::vector<GraphValue>& values) const {
    Donations donations;
    for (const nb::handle name : donate) {
      const auto s = static_cast<std::size_t>(slot(safe_text(name)));
      const nb::object value = given.contains(name) ? nb::object(given[name]) : nb::none();
      PyBuffer* own = nullptr;
      if (!nb::try_cast<PyBuffer*>(value, own, false) || own == nullptr || own->read_only) {
        throw Error(ErrorKind::kInvalidValue,
                    {.area = "graph",
                     .what = "only an NPUBuffer of the caller's can be donated; " +
                             quoted(graph_.names()[s]) + (own == nullptr ? " is none" : " is read-only")});
      }
      values[s] = {.buffer = lent_by(value, graph_.names()[s].c_str()), .foreign = nullptr, .owned = true};
      donations.add(value, own);
    }
    donations.begin();
    return donations;
  }

  void report(const std::vector<std::int64_t>& bytes, nb::handle copied) const {
    for (std::size_t s = 0; s < bytes.size(); ++s) {
      if (bytes[s] > 0) copied[names_[s]] = nb::int_(bytes[s]);
    }
  }

  GraphValue value_of(nb::object object, int s) const {
    GraphValue value;
    const std::string& name = graph_.names()[static_cast<std::size_t>(s)];
    bool copied = false;
    if (graph_.needs_buffer(s))
      value.buffer =
          lent_by(object, name.c_str(), {.copied = &copied, .target = device_ ? &*device_ : nullptr});
    if (copied)
      Counting::current()->bytes[static_cast<std::size_t>(s)] +=
          static_cast<std::int64_t>(value.buffer.bytes());
    value.foreign = owned(std::move(object));
    return value;
  }

  void call(void* function, const std::vector<int>& to, std::span<const GraphValue> in,
            std::span<GraphValue> out) const {
    const nb::gil_scoped_acquire acquire;
    nb::list inputs;
    for (const GraphValue& value : in) inputs.append(python_value(value));
    const nb::object results = nb::borrow(static_cast<PyObject*>(function))(inputs);
    if (!nb::isinstance<nb::sequence>(results) || nb::len(results) != out.size()) {
      throw Error(ErrorKind::kInvalidValue, {.area = "graph",
                                             .what = "a host part returned the wrong number of values",
                                             .expected = "a list of " + std::to_string(out.size())});
    }
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = value_of(nb::object(results[i]), to[i]);
  }

  std::vector<nb::str> names_;
  std::optional<Device> device_;  // of the first program
  Graph graph_;
  std::vector<int> results_;
};

}  // namespace

void bind_graph(nb::module_& m) {
  nb::class_<PyGraph>(
      m, "Graph",
      "Parts that pass values on by name: programs, and Python functions for the rest. May be "
      "used from many threads once its parts are added.")
      .def(nb::init<std::vector<std::string>, const std::vector<std::string>&>(), "names"_a, "results"_a,
           "All values that there are, and those that runs return.")
      .def("add_program", &PyGraph::add_program, "executor"_a,
           "The next part: its inputs and outputs are the values of their names.")
      .def("add_host", &PyGraph::add_host, "run"_a, "inputs"_a, "outputs"_a,
           "updates"_a = std::map<std::string, std::string>(), "device"_a = nb::none(),
           nb::sig("def add_host(self, run: collections.abc.Callable[[list[typing.Any]], "
                   "collections.abc.Sequence[typing.Any]], inputs: collections.abc.Sequence[str], "
                   "outputs: collections.abc.Sequence[str], updates: dict[str, str] = {}, "
                   "device: Device | None = None) -> None"),
           "The next part: a function from a list of inputs to a list of outputs. `updates` names outputs "
           "that are inputs which it writes; where others need the old contents, it gets copies on `device`.")
      .def("run", &PyGraph::run, "values"_a, "weights"_a, "donate"_a = nb::none(), "copied"_a = nb::none(),
           nb::sig("def run(self, values: dict[str, typing.Any], weights: "
                   "collections.abc.Sequence[Weights | None], donate: "
                   "collections.abc.Iterable[str] | None = None, copied: dict[str, int] | None = None) -> "
                   "dict[str, typing.Any]"),
           "Values by name, and weights by part; returns results by name. What was given is passed to "
           "functions as it is, what programs make as NPUBuffers. Buffers that are named in `donate` give "
           "their memory to what updates them. `copied` gets bytes that were copied, by name.")
      .def("__len__", &PyGraph::parts);
}

}  // namespace npu::bindings
