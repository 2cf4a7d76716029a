// Runs with Python's dicts of tensors.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <array>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "bindings/tensors.h"

namespace npu::bindings {

namespace nb = nanobind;

// The buffers that one run takes over.
class Donations {
 public:
  Donations() = default;
  Donations(Donations&&) = default;
  Donations& operator=(Donations&&) = default;
  ~Donations() {
    for (auto& [object, buffer] : begun_) buffer->donated = false;
  }

  void add(nb::object object, PyBuffer* buffer) { added_.emplace_back(std::move(object), buffer); }
  void begin() {
    begun_ = std::move(added_);
    for (auto& [object, buffer] : begun_) buffer->donated = true;
  }
  void complete() {
    for (auto& [object, buffer] : begun_) {
      buffer->buffer = Buffer::wrap(nullptr, buffer->buffer.dtype(), buffer->buffer.shape(), nullptr);
    }
    begun_.clear();
  }

 private:
  std::vector<std::pair<nb::object, PyBuffer*>> added_, begun_;
};

// The inputs of one run, which are borrowed for as long as this lives; few of them allocate nothing.
class RunInputs {
 public:
  explicit RunInputs(std::size_t count)
      : count_(count), many_(count > kInline ? count : 0), many_buffers_(many_.size()) {}

  Borrowed& operator[](std::size_t i) { return many_.empty() ? few_[i] : many_[i]; }
  // Once it has been taken.
  const Buffer& store(std::size_t i) { return data()[i] = (*this)[i].buffer(); }
  std::span<const Buffer> buffers() { return {data(), count_}; }

 private:
  static constexpr std::size_t kInline = 8;
  Buffer* data() { return many_.empty() ? few_buffers_.data() : many_buffers_.data(); }

  std::size_t count_;
  std::array<Borrowed, kInline> few_;
  std::vector<Borrowed> many_;
  std::array<Buffer, kInline> few_buffers_;
  std::vector<Buffer> many_buffers_;
};

// Names are looked up once per call, in the program's order.
struct PyRunner {
  Program program;
  Device device;
  std::vector<nb::str> input_names, output_names;
  nb::object outputs_type;  // a dict that knows the outputs' further names

  PyRunner(const Program& p, Device d) : program(p), device(std::move(d)) {
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
      const auto text = safe_text(name);
      bool matched = false;
      for (const TensorSpec& spec : program.inputs()) matched |= spec.name == text;
      if (!matched) unknown += (unknown.empty() ? "" : ", ") + quoted(text);
    }
    for (const TensorSpec& spec : program.inputs()) known += (known.empty() ? "" : ", ") + quoted(spec.name);
    throw Error(ErrorKind::kInvalidValue,
                {.area = "run", .what = std::string("unknown ") + what, .got = unknown, .expected = known});
  }

  template <class Run>
  nb::object run(nb::handle inputs, nb::handle donate, Run&& call) const {
    RunInputs taken(input_names.size());
    std::vector<char> donated;
    take_inputs(inputs, taken);
    // Used up from here on, also for other threads; a run that fails gives the buffers back.
    Donations given;
    if (!donate.is_none()) given = take_donations(inputs, donate, donated);
    std::vector<Buffer> outputs(output_names.size());
    {
      nb::gil_scoped_release release;
      static_assert(sizeof(bool) == 1);
      call(taken.buffers(),
           std::span<const bool>(reinterpret_cast<const bool*>(donated.data()), donated.size()),
           std::span<Buffer>(outputs));
    }
    given.complete();
    nb::object result = outputs_type();
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      const nb::object value = nb::cast(PyBuffer{std::move(outputs[i])});
      if (PyDict_SetItem(result.ptr(), output_names[i].ptr(), value.ptr()) != 0) throw nb::python_error();
    }
    return result;
  }

 private:
  void take_one(RunInputs& taken, std::size_t i, nb::handle object) const {
    taken[i].take(object, program.inputs()[i].name.c_str(), &device);
    taken.store(i);
  }

  void take_inputs(nb::handle inputs, RunInputs& taken) const {
    if (!PyDict_Check(inputs.ptr())) {
      // A single input needs no name.
      if (input_names.size() != 1 || PyList_Check(inputs.ptr()) || PyTuple_Check(inputs.ptr())) {
        throw Error(
            ErrorKind::kInvalidValue,
            {.area = "run", .what = "inputs must be a dict of names to tensors", .got = class_name(inputs)});
      }
      return take_one(taken, 0, inputs);
    }
    Py_ssize_t matched = 0;
    for (std::size_t i = 0; i < input_names.size(); ++i) {
      PyObject* const object = PyDict_GetItemWithError(inputs.ptr(), input_names[i].ptr());
      if (object == nullptr) {
        if (PyErr_Occurred()) throw nb::python_error();
        continue;
      }
      ++matched;
      take_one(taken, i, object);
    }
    if (matched == PyDict_Size(inputs.ptr())) return;
    // One unknown name for the one input: what callers of single-input programs write.
    if (input_names.size() == 1 && PyDict_Size(inputs.ptr()) == 1) {
      const nb::object value = nb::borrow<nb::dict>(inputs).values()[0];
      return take_one(taken, 0, value);
    }
    surplus(inputs, "inputs");
  }

  Donations take_donations(nb::handle inputs, nb::handle donate, std::vector<char>& donated) const {
    if (nb::isinstance<nb::str>(donate) || !nb::hasattr(donate, "__iter__")) {
      throw Error(
          ErrorKind::kInvalidValue,
          {.area = "run", .what = "donate must be a set of input names", .got = safe_text(nb::repr(donate))});
    }
    if (!PyDict_Check(inputs.ptr())) {
      throw Error(ErrorKind::kInvalidValue, {.area = "run",
                                             .what = "a donated input must be passed by name",
                                             .got = class_name(inputs),
                                             .expected = "a dict of names to tensors"});
    }
    donated.assign(input_names.size(), 0);
    Donations given;
    for (const nb::handle name : donate) {
      std::size_t i = 0;
      while (i < input_names.size() && !input_names[i].equal(name)) ++i;
      if (i == input_names.size()) surplus(donate, "names in donate");
      if (donated[i]) continue;
      const nb::object value = nb::steal(PyObject_GetItem(inputs.ptr(), name.ptr()));
      if (!value.is_valid()) throw nb::python_error();
      PyBuffer* own = nullptr;
      const bool is_buffer = nb::try_cast<PyBuffer*>(value, own, false) && own != nullptr;
      if (!is_buffer || own->read_only) {
        throw Error(
            ErrorKind::kInvalidValue,
            {.area = "run",
             .what = "only an NPUBuffer of the caller's can be donated; input " +
                     quoted(program.inputs()[i].name) + (is_buffer ? " is read-only" : " is none"),
             .action = "NPUBuffer.from_numpy, or NPUBuffer.from_dlpack to give the tensor's own memory"});
      }
      donated[i] = 1;
      given.add(value, own);
    }
    given.begin();
    return given;
  }
};

// What Python calls Executor.
struct PyExecutor {
  Executor executor;
  PyRunner runner;
  Weights none;
  PyExecutor(nb::handle program, const Device& device, int threads)
      : executor(program_from(program), device, {threads}), runner(executor.program(), executor.device()) {}
};

// What Python calls Session.
struct PySession {
  Session session;
  nb::object owner;  // the executor
  const PyExecutor& executor() const { return *nb::inst_ptr<PyExecutor>(owner); }
  int input_index(const std::string& name) const {
    const auto& inputs = executor().executor.program().inputs();
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      if (inputs[i].name == name && inputs[i].state) return static_cast<int>(i);
    }
    std::string known;
    for (const TensorSpec& input : inputs) {
      if (input.state) known += (known.empty() ? "" : ", ") + quoted(input.name);
    }
    throw Error(ErrorKind::kInvalidValue, {.area = "session",
                                           .what = "not a state input of the session",
                                           .got = quoted(name),
                                           .expected = known.empty() ? "none; it has no state" : known});
  }
};

// The Weights that an argument is, or `none` for None and an empty dict.
const Weights& weights_from(nb::handle object, Weights& none);

}  // namespace npu::bindings
