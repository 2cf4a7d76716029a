// Single steps of a plan.
#include "npu/steps.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "bindings/errors.h"
#include "bindings/runner.h"
#include "bindings/tensors.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace npu::bindings {

namespace {

std::vector<PyBuffer> run_steps(Steps& self, const std::vector<int>& steps, const nb::dict& given,
                                const std::vector<int>& wanted, bool prepare) {
  std::map<int, Buffer> tensors;
  for (const auto [value, tensor] : given) {
    int number = 0;
    if (!nb::try_cast(value, number))
      raise_wrong_type({.area = "steps",
                        .what = "tensors are given by the number of their value",
                        .got = safe_text(nb::repr(value)),
                        .expected = "an int"});
    tensors.emplace(number, lent_by(tensor, ("value " + std::to_string(number)).c_str()));
  }
  std::vector<Buffer> results;
  {
    const nb::gil_scoped_release release;
    results = prepare ? self.run_prepare(steps, tensors, wanted) : self.run(steps, tensors, wanted);
  }
  std::vector<PyBuffer> all;
  for (Buffer& result : results) all.push_back({.buffer = std::move(result)});
  return all;
}

}  // namespace

void bind_steps(nb::module_& m) {
  nb::class_<PlannedStep>(m, "PlannedStep", "What one kernel of a plan does.")
      .def_ro("kernel", &PlannedStep::kernel)
      .def_ro("ops", &PlannedStep::ops, "Of the program; none for a copy to another layout.")
      .def_ro("reads", &PlannedStep::reads,
              "Values, numbered as in the program, then those of the plan alone.")
      .def_ro("writes", &PlannedStep::writes);
  nb::class_<Steps>(m, "Steps",
                    "Runs single steps of a plan on tensors of the caller. For one thread at a time.")
      .def("__init__", refuse_call("executor.steps()"), nb::sig("def __init__(self) -> None"))
      .def_prop_ro("prepare", &Steps::prepare, "The steps that compute values from weights alone.")
      .def_prop_ro("main", &Steps::main)
      .def("run", &run_steps, "steps"_a, "given"_a, "wanted"_a, nb::kw_only(), "prepare"_a = false,
           nb::sig("def run(self, steps: collections.abc.Sequence[int], given: dict[int, "
                   "npu_base.argument_types.AnyTensor], wanted: "
                   "collections.abc.Sequence[int], *, prepare: bool = False) -> list[NPUBuffer]"),
           "Run steps of `main` one after another, with every tensor in memory of its own. `given` has the "
           "tensors that they read from elsewhere, by value, also weights. Returns those of `wanted`. With "
           "`prepare`, steps of `prepare`, which run on the host.");
}

}  // namespace npu::bindings
