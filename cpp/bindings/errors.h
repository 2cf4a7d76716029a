// Translation of npu::Error into the Python classes below npu_runtime.NPUError.
#pragma once

#include "npu/error.h"

namespace npu::bindings {

void register_errors();

// An argument of a type that makes no sense there: in Python an InvalidTypeError, which is a TypeError too.
[[noreturn]] void raise_wrong_type(const Error::Parts& parts);

}  // namespace npu::bindings
