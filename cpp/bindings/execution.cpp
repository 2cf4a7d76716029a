// Executors and sessions.
#include <nanobind/nanobind.h>
#include <nanobind/stl/function.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <string>
#include <utility>
#include <vector>

#include "bindings/errors.h"
#include "bindings/runner.h"
#include "bindings/tensors.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace npu::bindings {

const Weights& weights_from(nb::handle object, Weights& none) {
  Weights* weights = nullptr;
  if (object.is_none() || (PyDict_Check(object.ptr()) && PyDict_Size(object.ptr()) == 0)) return none;
  if (nb::try_cast<Weights*>(object, weights, false) && weights != nullptr) return *weights;
  throw Error(ErrorKind::kInvalidValue, {.area = "run",
                                         .what = "weights must come from load_weights",
                                         .got = class_name(object),
                                         .action = "load_weights(dict, program, device)"});
}

namespace {

// A torch.device by our name for it. PyTorch calls Apple's GPU "mps".
std::string name_of_torch_device(nb::handle device) {
  const auto type = nb::cast<std::string>(device.attr("type"));
  const std::string name = type == "mps" ? "metal" : type;
  const nb::object index = device.attr("index");
  const int number = index.is_none() ? 0 : nb::cast<int>(index);
  return number == 0 ? name : name + ":" + std::to_string(number);
}

bool is_torch_device(nb::handle object) {
  return class_name(object) == "device" && nb::str(object.type().attr("__module__")).equal(nb::str("torch"));
}

std::string device_name(nb::handle kind) {
  if (kind.is_none()) return "";
  std::string name;
  if (is_torch_device(kind)) return name_of_torch_device(kind);
  if (nb::try_cast(kind, name) && !name.empty()) return name;
  throw Error(ErrorKind::kInvalidValue, {.area = "device",
                                         .what = "the kind of a device must be a string or a torch.device",
                                         .got = nb::cast<std::string>(nb::repr(kind)),
                                         .expected = "'cpu', or nothing for the best one"});
}

void bind_times(nb::module_& m) {
  nb::class_<KernelTime>(m, "KernelTime", "What one kernel took, over the profiled runs.")
      .def_ro("op", &KernelTime::op)
      .def_ro("kernel", &KernelTime::kernel)
      .def_ro("calls", &KernelTime::calls)
      .def_ro("nanoseconds", &KernelTime::nanoseconds)
      .def_ro("last_start", &KernelTime::last_start)
      .def_ro("last_nanoseconds", &KernelTime::last_nanoseconds)
      .def_ro("flops", &KernelTime::flops)
      .def_ro("bytes", &KernelTime::bytes);
  nb::class_<PlanSummary>(m, "PlanSummary", "Sizes of a plan.")
      .def_ro("arena_bytes", &PlanSummary::arena_bytes)
      .def_ro("scratch_bytes", &PlanSummary::scratch_bytes)
      .def_ro("largest_live_bytes", &PlanSummary::largest_live_bytes)
      .def_ro("kernels", &PlanSummary::kernels)
      .def_ro("dispatches", &PlanSummary::dispatches)
      .def_ro("barriers", &PlanSummary::barriers)
      .def_ro("bytes", &PlanSummary::bytes)
      .def_ro("least_bytes", &PlanSummary::least_bytes)
      .def_ro("seconds", &PlanSummary::seconds);
}

}  // namespace

void bind_execution(nb::module_& m) {
  nb::class_<Device>(m, "Device", "A device that programs run on.")
      .def(
          "__init__",
          [](Device* self, nb::handle kind) {
            const std::string name = device_name(kind);
            new (self) Device(Device::open(name));
            if (name.empty() && self->kind() != "cpu") {
              nb::module_::import_("npu_runtime.verdicts").attr("mention")(self->kind(), self->name());
            }
          },
          "kind"_a = nb::none(),
          nb::sig("def __init__(self, kind: str | torch.device | None = None) -> None"),
          "'cpu', 'metal', 'cuda', 'cuda:1', a torch.device, or nothing for the best device present.")
      .def_prop_ro("kind", &Device::kind)
      .def_prop_ro("name", &Device::name)
      .def("__repr__", [](const Device& d) { return "Device('" + d.kind() + "', name='" + d.name() + "')"; });
  m.def("device_name", &device_name, "kind"_a.none(),
        nb::sig("def device_name(kind: str | torch.device | None) -> str"),
        "The name of what Device() takes; empty for None.");
  bind_times(m);

  nb::class_<PySession>(m, "Session",
                        "One run's state: intermediates, and the tensors a program keeps between runs. For "
                        "one thread at a time.")
      .def("__init__", refuse_call("executor.session()"), nb::sig("def __init__(self) -> None"))
      .def(
          "run",
          [](PySession& self, nb::handle inputs, nb::handle weights, nb::handle donate, bool profile) {
            const PyExecutor& e = self.executor();
            Weights none = e.none;
            const Weights& w = weights_from(weights, none);
            return e.runner.run(inputs, donate, [&](auto in, auto donated, auto out) {
              self.session.run(in, w, donated, out, profile);
            });
          },
          "inputs"_a.none(), "weights"_a = nb::none(), "donate"_a = nb::none(), "profile"_a = false,
          nb::sig("def run(self, inputs: npu_base.argument_types.RunInputs, weights: Weights | None = None, "
                  "donate: collections.abc.Iterable[str] | None = None, profile: bool = False) -> "
                  "dict[str, NPUBuffer]"))
      .def(
          "times", [](const PySession& self) { return self.session.times(); },
          "Of the runs with profile=True.")
      .def(
          "settle", [](PySession& self) { self.session.settle(); }, nb::call_guard<nb::gil_scoped_release>(),
          "Some devices go on making a program quicker while it runs, on the side; wait until that is done.")
      .def("clear_times", [](PySession& self) { self.session.clear_times(); })
      .def(
          "state",
          [](const PySession& self, const std::string& name) -> std::optional<PyBuffer> {
            Buffer state = self.session.state(self.input_index(name));
            if (!state) return std::nullopt;
            return PyBuffer{.buffer = std::move(state), .read_only = true};
          },
          "name"_a, "What it holds for a state input; None before the first run.")
      .def(
          "set_state",
          [](PySession& self, const std::string& name, nb::handle value) {
            self.session.set_state(self.input_index(name), copy_of(value, name.c_str()));
          },
          "name"_a, "value"_a,
          nb::sig("def set_state(self, name: str, value: npu_base.argument_types.AnyTensor) -> None"))
      .def(
          "share_state", [](PySession& self, PySession& other) { self.session.share_state(other.session); },
          "other"_a,
          "Hold, from now on, the same tensors as another session of a program with state inputs of these "
          "names, such as one for prompts and one for single tokens. What neither has begun starts as zeros.")
      .def("reset", [](PySession& self) { self.session.reset(); }, "Forget all state.");

  nb::class_<PyExecutor>(m, "Executor", "A program laid out for a device. May be used from many threads.")
      .def(
          "__init__",
          [](PyExecutor* self, nb::handle program, const Device& device, int threads) {
            new (self) PyExecutor(program, device, threads);
          },
          "program"_a.none(), "device"_a, nb::kw_only(), "threads"_a = 0,
          nb::sig("def __init__(self, program: " NPU_ANY_PROGRAM ", device: Device, *, "
                  "threads: int = 0) -> None"))
      .def(
          "run",
          [](PyExecutor& self, nb::handle inputs, nb::handle weights, nb::handle donate) {
            const Weights& w = weights_from(weights, self.none);
            return self.runner.run(inputs, donate, [&](auto in, auto donated, auto out) {
              self.executor.run(in, w, donated, out);
            });
          },
          "inputs"_a.none(), "weights"_a = nb::none(), "donate"_a = nb::none(),
          nb::sig("def run(self, inputs: npu_base.argument_types.RunInputs, weights: Weights | None = None, "
                  "donate: collections.abc.Iterable[str] | None = None) -> dict[str, NPUBuffer]"),
          "Run with tensors by name (NPUBuffer, NumPy or torch); returns NPUBuffers by name. Inputs named in "
          "`donate` give their memory to the outputs that update them.")
      .def(
          "session",
          [](nb::handle self) {
            return PySession{nb::inst_ptr<PyExecutor>(self)->executor.session(), nb::borrow(self)};
          },
          "A state to keep between runs.")
      .def(
          "steps", [](const PyExecutor& self) { return self.executor.steps(); },
          "The plan's steps, to run them one by one.")
      .def(
          "prepare",
          [](const PyExecutor& self, nb::handle weights, nb::handle progress) {
            Weights none = self.none;
            const Weights& w = weights_from(weights, none);
            Progress report;
            if (!progress.is_none()) {
              if (!PyCallable_Check(progress.ptr())) {
                raise_wrong_type({.area = "executor",
                                  .what = "progress is not callable",
                                  .got = safe_text(nb::repr(progress)),
                                  .expected = "a function of the work done and the total"});
              }
              report = [progress](std::int64_t done, std::int64_t total) {
                nb::gil_scoped_acquire acquire;
                progress(done, total);
              };
            }
            nb::gil_scoped_release release;
            self.executor.prepare(w, report);
          },
          "weights"_a = nb::none(), "progress"_a = nb::none(),
          nb::sig("def prepare(self, weights: Weights | None = None, progress: "
                  "collections.abc.Callable[[int, int], object] | None = None) -> None"),
          "Fold, cast and pack weights now instead of at the first run; progress(done, total) is called on "
          "the way.")
      .def(
          "plan", [](const PyExecutor& self) { return self.executor.plan(); },
          "Kernels, layouts and offsets in memory, as text.")
      .def_prop_ro("summary", [](const PyExecutor& self) { return self.executor.summary(); })
      .def_prop_ro("program", [](const PyExecutor& self) { return self.executor.program(); })
      .def_prop_ro("device", [](const PyExecutor& self) { return self.executor.device(); })
      .def_prop_ro("threads", [](const PyExecutor& self) { return self.executor.threads(); })
      .def("__repr__", [](const PyExecutor& self) {
        return "Executor('" + self.executor.program().model_name() + "', device='" +
               self.executor.device().kind() + "', threads=" + std::to_string(self.executor.threads()) +
               ", kernels=" + std::to_string(self.executor.summary().kernels) + ")";
      });
}

}  // namespace npu::bindings
