// From MSL to CUDA C++ over the headers in ../msl.
//
// - Words for address spaces go; a threadgroup variable of a kernel is __shared__.
// - Kernels become functions that are inlined into an entry; their attributes and instantiations become the
// table.
// - Function constants become constants whose values are macros, so that a text serves all of them.
// - Literals get MSL's types (1.0 is a float, 1.0h a half), and a swizzle becomes a call: v.xy().
// - Pragmas: loops stay unrolled. Contraction needs no pragma: the compiler is told to do none (-fmad=false).
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "cuda/lower/lowered.h"

namespace npu::cuda {

// The text of a file that is included by its name, or nothing.
using FindFile = std::function<std::optional<std::string>(const std::string& name)>;

// Throws msl::SourceError: what is wrong, with file and line.
Lowered lower(std::string_view text, const std::string& name, const FindFile& find);

}  // namespace npu::cuda
