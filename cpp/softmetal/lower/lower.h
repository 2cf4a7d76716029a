// From preprocessed MSL to C++ over the headers in ../msl.
//
// - Kernels lose their attributes and gain a first parameter, the Group of the thread.
// - A threadgroup variable of a kernel becomes a reference into the group's memory.
// - Each kernel, or each explicit instantiation of a template of one, is entered in the library's table.
// - Function constants, and constants computed from them, become thread-local and can be set.
// - Literals get MSL's types: 1.0 is a float, 1.0h a half.
#pragma once

#include <string>

namespace softmetal {

// Throws msl::SourceError.
std::string lower(const std::string& preprocessed, const std::string& name);

}  // namespace softmetal
