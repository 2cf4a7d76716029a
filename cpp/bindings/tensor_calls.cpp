// Runs with another library's tensors, by position.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "bindings/errors.h"
#include "bindings/exchange.h"
#include "bindings/runner.h"
#include "bindings/tensors.h"
#include "core/base/memory.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace npu::bindings {

namespace {

std::vector<std::size_t> indices_of(const std::vector<std::string>& names,
                                    const std::vector<TensorSpec>& specs, const char* what) {
  std::vector<std::size_t> indices;
  for (const std::string& name : names) {
    std::size_t i = 0;
    while (i < specs.size() && specs[i].name != name) ++i;
    if (i == specs.size()) {
      std::string known;
      for (const TensorSpec& spec : specs) known += (known.empty() ? "" : ", ") + quoted(spec.name);
      throw Error(ErrorKind::kInvalidValue, {.area = "run",
                                             .what = std::string("the program has no such ") + what,
                                             .got = quoted(name),
                                             .expected = known});
    }
    indices.push_back(i);
  }
  return indices;
}

class TensorCall {
 public:
  TensorCall(nb::handle runner, const std::vector<std::string>& inputs,
             const std::vector<std::string>& outputs, const nb::type_object& type, nb::handle subtype)
      : runner_(nb::borrow(runner)),
        type_(nb::borrow(type)),
        subtype_(nb::borrow(subtype)),
        exchange_(Exchange::of(type)) {
    if (!nb::try_cast<PySession*>(runner, session_, false) &&
        !nb::try_cast<PyExecutor*>(runner, executor_, false)) {
      raise_wrong_type({.area = "run",
                        .what = "this cannot run a program",
                        .got = class_name(runner),
                        .expected = "an Executor or a Session"});
    }
    inputs_ = indices_of(inputs, program().inputs(), "input");
    outputs_ = indices_of(outputs, program().outputs(), "output");
  }

  nb::object run(const nb::tuple& tensors, nb::handle weights) const {
    RunInputs inputs(program().inputs().size());
    if (!take(tensors, inputs)) return nb::none();
    Weights none = executor().none;
    const Weights& w = weights_from(weights, none);
    std::vector<Buffer> outputs(program().outputs().size()), wanted;
    {
      const nb::gil_scoped_release release;
      if (session_ != nullptr) {
        session_->session.run(inputs.buffers(), w, {}, outputs);
      } else {
        executor_->executor.run(inputs.buffers(), w, {}, outputs);
      }
      for (const std::size_t i : outputs_) wanted.push_back(outputs[i]);
      if (!std::ranges::all_of(wanted, &Buffer::on_host)) wanted = on_host(std::span<const Buffer>(wanted));
    }
    nb::object results = nb::steal(PyTuple_New(static_cast<Py_ssize_t>(wanted.size())));
    if (!results.is_valid()) throw nb::python_error();
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      PyObject* const tensor = exchange_->tensor_of(wanted[i]).release().ptr();
      if (PyTuple_SetItem(results.ptr(), static_cast<Py_ssize_t>(i), tensor) != 0) throw nb::python_error();
    }
    return results;
  }

 private:
  const PyExecutor& executor() const { return session_ != nullptr ? session_->executor() : *executor_; }
  const Program& program() const { return executor().runner.program; }

  bool take(const nb::tuple& tensors, RunInputs& inputs) const {
    if (!exchange_ || tensors.size() != inputs_.size()) return false;
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      const nb::handle tensor = PyTuple_GetItem(tensors.ptr(), static_cast<Py_ssize_t>(i));
      const bool known = tensor.type().is(type_) || tensor.type().is(subtype_);
      if (!known || !inputs[inputs_[i]].take_from(*exchange_, tensor)) return false;
      const Buffer& buffer = inputs.store(inputs_[i]);
      const TensorSpec& spec = program().inputs()[inputs_[i]];
      if (buffer.dtype() != spec.dtype || buffer.shape() != spec.shape) return false;
    }
    return true;
  }

  nb::object runner_, type_, subtype_;
  PySession* session_ = nullptr;  // one of them is the runner
  PyExecutor* executor_ = nullptr;
  std::optional<Exchange> exchange_;  // nothing if the type does not offer it
  std::vector<std::size_t> inputs_, outputs_;
};

}  // namespace

void bind_tensor_calls(nb::module_& m) {
  nb::class_<TensorCall>(m, "TensorCall",
                         "Runs a program with tensors of one type, through DLPack's C exchange interface.")
      .def(
          nb::init<nb::handle, const std::vector<std::string>&, const std::vector<std::string>&,
                   const nb::type_object&, nb::handle>(),
          "runner"_a, "inputs"_a, "outputs"_a, "type"_a, "subtype"_a = nb::none(),
          nb::sig("def __init__(self, runner: Executor | Session, inputs: collections.abc.Sequence[str], "
                  "outputs: collections.abc.Sequence[str], type: type, subtype: type | None = None) -> None"),
          "`inputs` and `outputs` name what calls take and return, in this order. `subtype` is one of the "
          "type's that calls take too.")
      .def(
          "run", &TensorCall::run, "tensors"_a, "weights"_a = nb::none(),
          nb::sig("def run(self, tensors: tuple[typing.Any, ...], weights: Weights | None = None) -> "
                  "tuple[typing.Any, ...] | None"),
          "Results as tensors of the host. None, before anything has run, unless all inputs are such tensors "
          "of exactly these types, and of the program's shapes and dtypes.");
}

}  // namespace npu::bindings
