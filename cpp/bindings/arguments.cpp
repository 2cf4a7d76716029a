// Turns argument errors into our own: nanobind's show C++ signatures.
#include <nanobind/nanobind.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "bindings/errors.h"
#include "bindings/tensors.h"

namespace nb = nanobind;

namespace npu::bindings {

namespace {

// nanobind has a handful of ways to call a function. Each gets a wrapper of its own, so that a call that
// succeeds costs one jump more and no lookup.
constexpr std::size_t kMostEntries = 16;
std::array<vectorcallfunc, kMostEntries> entries{};

// And not from another function that this one called.
bool is_misfit(nb::handle error, nb::handle function) {
  const std::string begin = safe_text(function.attr("__name__")) + "(): incompatible function arguments";
  return safe_text(error).rfind(begin, 0) == 0;
}

void translate(nb::handle function, PyObject* const* args, std::size_t flagged, nb::handle names) {
  if (!PyErr_ExceptionMatches(PyExc_TypeError)) return;
  nb::python_error original;
  try {
    if (!is_misfit(original.value(), function)) return original.restore();
    const auto count = static_cast<std::uint32_t>(flagged);  // without the flags of Python and nanobind
    nb::list positional;
    for (std::size_t i = 0; i < count; ++i) positional.append(nb::borrow(args[i]));
    nb::dict named;
    const std::size_t extra = names.is_valid() ? nb::len(nb::borrow<nb::tuple>(names)) : 0;
    for (std::size_t i = 0; i < extra; ++i) named[names[i]] = nb::borrow(args[count + i]);
    const nb::object error =
        nb::module_::import_("npu_runtime.arguments").attr("wrong_arguments")(function, positional, named);
    PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(error.ptr())), error.ptr());
  } catch (nb::python_error&) {
    original.restore();
  }
}

template <std::size_t I>
PyObject* call(PyObject* self, PyObject* const* args, std::size_t count, PyObject* names) {
  PyObject* const result = entries[I](self, args, count, names);
  if (result == nullptr) [[unlikely]]
    translate(self, args, count, names);
  return result;
}

template <std::size_t... I>
constexpr std::array<vectorcallfunc, sizeof...(I)> make_wrappers(std::index_sequence<I...>) {
  return {&call<I>...};
}
constexpr auto wrappers = make_wrappers(std::make_index_sequence<kMostEntries>());

// Where a function of nanobind has the pointer to how it is called.
std::size_t offset_of_call([[maybe_unused]] nb::handle function) {
#ifdef Py_LIMITED_API
  return sizeof(PyVarObject);  // the stable ABI has no way to ask; it is the first member
#else
  return static_cast<std::size_t>(Py_TYPE(function.ptr())->tp_vectorcall_offset);
#endif
}

void wrap(nb::handle function) {
  char* const object = reinterpret_cast<char*>(function.ptr());
  auto* const slot = reinterpret_cast<vectorcallfunc*>(object + offset_of_call(function));
  for (std::size_t i = 0; i < kMostEntries; ++i) {
    if (entries[i] == nullptr) entries[i] = *slot;
    if (entries[i] != *slot) continue;
    *slot = wrappers[i];
    return;
  }
}

bool is_bound(nb::handle value) { return nb::hasattr(value, "__nb_signature__"); }

}  // namespace

void explain_arguments(nb::handle module) {
  for (const nb::handle value : module.attr("__dict__").attr("values")()) {
    if (is_bound(value)) wrap(value);
    if (!PyType_Check(value.ptr())) continue;
    for (const nb::handle member : value.attr("__dict__").attr("values")())
      if (is_bound(member)) wrap(member);
  }
}

}  // namespace npu::bindings
