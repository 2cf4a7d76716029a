// Errors as Python classes below npu_runtime.NPUError.
#pragma once

#include <nanobind/nanobind.h>

#include "npu/error.h"

namespace npu::bindings {

void register_errors();

// An argument of a type that makes no sense there: in Python an InvalidTypeError, which is a TypeError too.
[[noreturn]] void raise_wrong_type(const Error::Parts& parts);
[[noreturn]] void raise_not_made(nanobind::handle instance, const char* instead);

// The constructor of a class that cannot be created by calling it.
inline auto refuse_call(const char* instead) {
  return [instead](nanobind::handle self, const nanobind::args&, const nanobind::kwargs&) {
    raise_not_made(self, instead);
  };
}

// Once everything is bound: calls whose arguments fit no signature raise an InvalidTypeError that says why.
void explain_arguments(nanobind::handle module);

}  // namespace npu::bindings
