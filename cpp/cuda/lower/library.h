// Libraries of kernels for CUDA: those of metal/ and ../kernels, which the build has lowered, and generated
// ones.
#pragma once

#include <memory>
#include <string_view>

#include "cuda/lower/lowered.h"

namespace npu::cuda {

// `library` and `prologue` as in gpu::kernel_source. Throws where the text is no MSL, with file and line.
Lowered lowered_library(std::string_view library, std::string_view prologue = {});

// What the build made of a file of metal/: written by lower_kernels.cpp.
struct EmbeddedParameter {
  KernelParameter::Kind kind;
  int number;
  const char *text, *condition;
};
struct EmbeddedKernel {
  const char *name, *call;
  const EmbeddedParameter* parameters;
  int parameter_count;
};
struct EmbeddedConstant {
  int number;
  const char* name;
  bool required;
};
struct EmbeddedLibrary {
  std::string_view name, text;
  const EmbeddedConstant* constants;
  int constant_count;
  const EmbeddedKernel* kernels;
  int kernel_count;
};

extern const EmbeddedLibrary kLibraries[];  // generated; ends with one without a name

}  // namespace npu::cuda
