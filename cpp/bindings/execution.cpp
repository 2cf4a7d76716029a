// Programs, weights, executors and sessions.
#include <nanobind/nanobind.h>
#include <nanobind/stl/function.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <array>
#include <string>
#include <vector>

#include "tensors.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace npu::bindings {

namespace {

std::string spec_repr(const TensorSpec& spec) {
  return "TensorSpec(name='" + spec.name + "', shape=" + shape_text(spec.shape) + ", dtype='" +
         std::string(dtype_name(spec.dtype)) + "')";
}

std::span<const std::byte> bytes_span(const nb::bytes& bytes) {
  return {reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()};
}

// A program in any of its forms: the core's, npu_compiler's, or a path.
Program program_from(nb::handle object) {
  Program* program = nullptr;
  if (nb::try_cast<Program*>(object, program, false) && program != nullptr) return *program;
  if (nb::hasattr(object, "to_bytes"))
    return Program::parse(bytes_span(nb::cast<nb::bytes>(object.attr("to_bytes")())));
  if (nb::isinstance<nb::str>(object) || nb::hasattr(object, "__fspath__")) {
    return Program::load(nb::cast<std::string>(nb::module_::import_("os").attr("fspath")(object)));
  }
  throw Error(
      ErrorKind::kInvalidValue,
      {.area = "executor",
       .what = "not a program",
       .got = nb::cast<std::string>(nb::str(nb::handle(reinterpret_cast<PyObject*>(Py_TYPE(object.ptr()))))),
       .expected = "a CompiledProgram or the path of an .npubin file"});
}

// Runs with Python's dicts: names are looked up once per call, in the program's order.
struct PyRunner {
  Program program;
  std::vector<nb::str> input_names, output_names;
  nb::object outputs_type;  // a dict that knows the outputs' further names

  explicit PyRunner(const Program& p) : program(p) {
    nb::dict further;
    for (const TensorSpec& spec : p.inputs())
      input_names.push_back(nb::steal<nb::str>(PyUnicode_InternFromString(spec.name.c_str())));
    for (const TensorSpec& spec : p.outputs()) {
      output_names.push_back(nb::steal<nb::str>(PyUnicode_InternFromString(spec.name.c_str())));
      for (const auto& name : spec.names) further[nb::str(name.c_str())] = output_names.back();
    }
    outputs_type = nb::module_::import_("npu_runtime.outputs").attr("outputs_type")(further);
  }

  [[noreturn]] void surplus(nb::handle given, const char* what) const {
    std::string unknown, known;
    for (const nb::handle name : given) {
      const auto text = nb::cast<std::string>(nb::str(name));
      bool found = false;
      for (const TensorSpec& spec : program.inputs()) found |= spec.name == text;
      if (!found) unknown += (unknown.empty() ? "" : ", ") + quoted(text);
    }
    for (const TensorSpec& spec : program.inputs()) known += (known.empty() ? "" : ", ") + quoted(spec.name);
    throw Error(ErrorKind::kInvalidValue,
                {.area = "run", .what = std::string("unknown ") + what, .got = unknown, .expected = known});
  }

  template <class Run>
  nb::object run(nb::handle inputs, nb::handle donate, Run&& call) const {
    const std::size_t n = input_names.size();
    constexpr std::size_t kInline = 8;
    std::array<Borrowed, kInline> few;
    std::vector<Borrowed> many(n > kInline ? n : 0);
    Borrowed* const borrowed = n > kInline ? many.data() : few.data();
    std::array<Buffer, kInline> few_buffers;
    std::vector<Buffer> many_buffers(n > kInline ? n : 0);
    Buffer* const buffers = n > kInline ? many_buffers.data() : few_buffers.data();
    std::vector<char> donated;
    take_inputs(inputs, borrowed, buffers);
    std::vector<PyBuffer*> used_up;
    if (!donate.is_none()) used_up = take_donations(inputs, donate, donated);
    std::vector<Buffer> outputs(output_names.size());
    {
      nb::gil_scoped_release release;
      static_assert(sizeof(bool) == 1);
      call(std::span<const Buffer>(buffers, n),
           std::span<const bool>(reinterpret_cast<const bool*>(donated.data()), donated.size()),
           std::span<Buffer>(outputs));
    }
    for (PyBuffer* buffer : used_up) {
      buffer->donated = true;
      buffer->buffer = Buffer::wrap(nullptr, buffer->buffer.dtype(), buffer->buffer.shape(), nullptr);
    }
    nb::object result = outputs_type();
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      const nb::object value = nb::cast(PyBuffer{std::move(outputs[i]), false});
      if (PyDict_SetItem(result.ptr(), output_names[i].ptr(), value.ptr()) != 0) throw nb::python_error();
    }
    return result;
  }

 private:
  void take_inputs(nb::handle inputs, Borrowed* borrowed, Buffer* buffers) const {
    if (!PyDict_Check(inputs.ptr())) {
      // With a single input there is nothing to name.
      if (input_names.size() != 1 || nb::isinstance<nb::sequence>(inputs)) {
        throw Error(ErrorKind::kInvalidValue,
                    {.area = "run", .what = "inputs must be a dict of names to tensors"});
      }
      borrowed[0].take(inputs, program.inputs()[0].name.c_str());
      buffers[0] = borrowed[0].buffer();
      return;
    }
    Py_ssize_t found = 0;
    for (std::size_t i = 0; i < input_names.size(); ++i) {
      PyObject* const object = PyDict_GetItemWithError(inputs.ptr(), input_names[i].ptr());
      if (object == nullptr) {
        if (PyErr_Occurred()) throw nb::python_error();
        continue;
      }
      ++found;
      borrowed[i].take(object, program.inputs()[i].name.c_str());
      buffers[i] = borrowed[i].buffer();
    }
    if (found == PyDict_Size(inputs.ptr())) return;
    // One unknown name for the one input: what callers of single-input programs write.
    if (input_names.size() == 1 && PyDict_Size(inputs.ptr()) == 1) {
      const nb::object value = nb::borrow<nb::dict>(inputs).values()[0];
      borrowed[0].take(value, program.inputs()[0].name.c_str());
      buffers[0] = borrowed[0].buffer();
      return;
    }
    surplus(inputs, "inputs");
  }

  std::vector<PyBuffer*> take_donations(nb::handle inputs, nb::handle donate,
                                        std::vector<char>& donated) const {
    if (nb::isinstance<nb::str>(donate) || !PyDict_Check(inputs.ptr())) {
      throw Error(ErrorKind::kInvalidValue, {.area = "run", .what = "donate must be a set of input names"});
    }
    donated.assign(input_names.size(), 0);
    std::vector<PyBuffer*> used_up;
    for (const nb::handle name : donate) {
      std::size_t i = 0;
      while (i < input_names.size() && !input_names[i].equal(name)) ++i;
      if (i == input_names.size()) surplus(donate, "names in donate");
      const nb::object value = nb::steal(PyObject_GetItem(inputs.ptr(), name.ptr()));
      if (!value.is_valid()) throw nb::python_error();
      PyBuffer* own = nullptr;
      if (!nb::try_cast<PyBuffer*>(value, own, false) || own == nullptr) {
        throw Error(ErrorKind::kInvalidValue, {.area = "run",
                                               .what = "only an NPUBuffer can be donated; input " +
                                                       quoted(program.inputs()[i].name) + " is none",
                                               .action = "NPUBuffer.from_numpy"});
      }
      for (const PyBuffer* other : used_up) {
        if (other->buffer.data() == own->buffer.data()) {
          throw Error(ErrorKind::kInvalidValue, {.area = "run",
                                                 .what = "one buffer is donated twice; the second time as " +
                                                         quoted(program.inputs()[i].name)});
        }
      }
      donated[i] = 1;
      used_up.push_back(own);
    }
    return used_up;
  }
};

const Weights& weights_from(nb::handle object, Weights& none) {
  Weights* weights = nullptr;
  if (object.is_none()) return none;
  if (nb::try_cast<Weights*>(object, weights, false) && weights != nullptr) return *weights;
  throw Error(ErrorKind::kInvalidValue, {.area = "run",
                                         .what = "weights must come from load_weights",
                                         .action = "load_weights(dict, program, device)"});
}

struct PyExecutor {
  Executor executor;
  PyRunner runner;
  Weights none;
  PyExecutor(nb::handle program, const Device& device, int threads)
      : executor(program_from(program), device, {threads}), runner(executor.program()) {}
};

struct PySession {
  Session session;
  nb::object owner;  // the executor
  const PyExecutor& executor() const { return *nb::inst_ptr<PyExecutor>(owner); }
  int input_index(const std::string& name) const {
    const auto& inputs = executor().executor.program().inputs();
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      if (inputs[i].name == name) return static_cast<int>(i);
    }
    throw Error(ErrorKind::kInvalidValue,
                {.area = "session", .what = "there is no input of this name", .got = quoted(name)});
  }
};

void bind_weights(nb::module_& m) {
  nb::class_<Weights>(m, "Weights", "Tensors by name, and what executors made of them. A mapping.")
      .def(nb::init<>())
      .def_static("load", &Weights::load, "path"_a, nb::call_guard<nb::gil_scoped_release>())
      .def_static("random", &Weights::random, "program"_a, "seed"_a = 0,
                  nb::call_guard<nb::gil_scoped_release>())
      .def(
          "check", [](const Weights& self, nb::handle program) { self.check(program_from(program)); },
          "program"_a, "Raise when `program` could not run with these.")
      .def("__getitem__",
           [](const Weights& self, const std::string& name) {
             Buffer found = self.get(name);
             if (!found) throw nb::key_error(name.c_str());
             return PyBuffer{std::move(found), false};
           })
      .def(
          "__setitem__",
          [](Weights& self, const std::string& name, nb::handle tensor) {
            self.set(name, copy_of(tensor, name.c_str()));
          },
          "Replaces a tensor with a copy of another one; what was prepared from it is made anew.")
      .def("__contains__",
           [](const Weights& self, const std::string& name) { return static_cast<bool>(self.get(name)); })
      .def("__len__", [](const Weights& self) { return self.names().size(); })
      .def(
          "__iter__", [](const Weights& self) { return nb::iter(nb::cast(self.names())); },
          nb::sig("def __iter__(self) -> collections.abc.Iterator[str]"))
      .def("keys", &Weights::names)
      .def("__repr__", [](const Weights& self) {
        return "Weights(" + std::to_string(self.names().size()) + " tensors)";
      });
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
      .def_ro("kernels", &PlanSummary::kernels);
}

}  // namespace

void bind_programs(nb::module_& m) {
  nb::class_<TensorSpec>(m, "TensorSpec", "Name, shape and dtype of a tensor of a program.")
      .def_ro("name", &TensorSpec::name)
      .def_ro("shape", &TensorSpec::shape)
      .def_prop_ro("dtype", [](const TensorSpec& s) { return std::string(dtype_name(s.dtype)); })
      .def_ro("names", &TensorSpec::names)
      .def_ro("required", &TensorSpec::required)
      .def_ro("state", &TensorSpec::state)
      .def("__repr__", &spec_repr);
  nb::class_<Program>(m, "Program", "A program as the core reads it.")
      .def_static(
          "load", [](nb::handle path) { return program_from(path); }, "path"_a)
      .def_static(
          "parse", [](const nb::bytes& data) { return Program::parse(bytes_span(data)); }, "data"_a)
      .def_prop_ro("model_name", &Program::model_name)
      .def_prop_ro("inputs", &Program::inputs)
      .def_prop_ro("outputs", &Program::outputs)
      .def_prop_ro("weights", &Program::weights)
      .def("text", &Program::text)
      .def("__repr__", [](const Program& p) {
        return "Program('" + p.model_name() + "', inputs=" + std::to_string(p.inputs().size()) +
               ", outputs=" + std::to_string(p.outputs().size()) +
               ", weights=" + std::to_string(p.weights().size()) + ")";
      });
}

void bind_execution(nb::module_& m) {
  nb::class_<Device>(m, "Device", "A device that programs run on.")
      .def(
          "__init__",
          [](Device* self, nb::handle kind) {
            new (self) Device(Device::open(kind.is_none() ? std::string() : nb::cast<std::string>(kind)));
          },
          "kind"_a = nb::none(), "'cpu', or nothing for the best device present.")
      .def_prop_ro("kind", &Device::kind)
      .def_prop_ro("name", &Device::name)
      .def("__repr__", [](const Device& d) { return "Device('" + d.kind() + "', name='" + d.name() + "')"; });
  bind_weights(m);
  bind_times(m);

  nb::class_<PySession>(m, "Session",
                        "One run's state: intermediates, and the tensors a program keeps between runs. For "
                        "one thread at a time.")
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
          nb::sig("def run(self, inputs: typing.Any, weights: Weights | None = None, "
                  "donate: collections.abc.Iterable[str] | None = None, profile: bool = False) -> "
                  "dict[str, NPUBuffer]"))
      .def(
          "times", [](const PySession& self) { return self.session.times(); },
          "Of the runs with profile=True.")
      .def("clear_times", [](PySession& self) { self.session.clear_times(); })
      .def(
          "state",
          [](const PySession& self, const std::string& name) -> std::optional<PyBuffer> {
            Buffer held = self.session.state(self.input_index(name));
            if (!held) return std::nullopt;
            return PyBuffer{std::move(held), false};
          },
          "name"_a, "What it holds for a state input; None before the first run.")
      .def(
          "set_state",
          [](PySession& self, const std::string& name, nb::handle value) {
            self.session.set_state(self.input_index(name), copy_of(value, name.c_str()));
          },
          "name"_a, "value"_a)
      .def("reset", [](PySession& self) { self.session.reset(); }, "Forget all state.");

  nb::class_<PyExecutor>(m, "Executor", "A program laid out for a device. May be used from many threads.")
      .def(nb::init<nb::handle, const Device&, int>(), "program"_a, "device"_a, nb::kw_only(),
           "threads"_a = 0)
      .def(
          "run",
          [](PyExecutor& self, nb::handle inputs, nb::handle weights, nb::handle donate) {
            const Weights& w = weights_from(weights, self.none);
            return self.runner.run(inputs, donate, [&](auto in, auto donated, auto out) {
              self.executor.run(in, w, donated, out);
            });
          },
          "inputs"_a.none(), "weights"_a = nb::none(), "donate"_a = nb::none(),
          nb::sig("def run(self, inputs: typing.Any, weights: Weights | None = None, "
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
          "prepare",
          [](const PyExecutor& self, nb::handle weights, nb::handle progress) {
            Weights none = self.none;
            const Weights& w = weights_from(weights, none);
            Progress report;
            if (!progress.is_none()) {
              report = [progress](std::int64_t done, std::int64_t total) {
                nb::gil_scoped_acquire acquire;
                progress(done, total);
              };
            }
            nb::gil_scoped_release release;
            self.executor.prepare(w, report);
          },
          "weights"_a, "progress"_a = nb::none(),
          "Fold, cast and pack weights now instead of at the first run; progress(done, total) is called on "
          "the way.")
      .def(
          "plan", [](const PyExecutor& self) { return self.executor.plan(); },
          "Kernels, layouts and places in memory, as text.")
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
