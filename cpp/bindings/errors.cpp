#include "bindings/errors.h"

#include <string>

#include "bindings/tensors.h"

namespace nb = nanobind;

namespace npu::bindings {

namespace {

const char* python_class(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kInvalidValue:
      return "InvalidValueError";
    case ErrorKind::kMissing:
      return "MissingWeightError";
    case ErrorKind::kUnavailable:
      return "UnavailableError";
    case ErrorKind::kInternal:
      break;
  }
  return "InternalError";
}

void set_error(const char* python_class, const char* message) {
  try {
    // Looked up when needed: importing it while the extension loads would be a cycle.
    const nb::object type = nb::module_::import_("npu_runtime.errors").attr(python_class);
    PyErr_SetString(type.ptr(), message);
  } catch (nb::python_error& import_failure) {
    import_failure.restore();
  }
}

}  // namespace

void register_errors() {
  nb::register_exception_translator([](const std::exception_ptr& pointer, void*) {
    try {
      std::rethrow_exception(pointer);
    } catch (const Error& error) {
      set_error(python_class(error.kind()), error.what());
    }
  });
}

void raise_wrong_type(const Error::Parts& parts) {
  set_error("InvalidTypeError", format_error(parts).c_str());
  throw nb::python_error();
}

void raise_not_made(nb::handle instance, const char* instead) {
  const std::string name = class_name(instance);
  raise_wrong_type({.area = "core", .what = name + " cannot be created by calling it", .action = instead});
}

}  // namespace npu::bindings
