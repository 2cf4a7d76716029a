#include "cuda/lower/library.h"

#include <string>

#include "cuda/lower/lower.h"
#include "gpu/device/kernel_sources.h"
#include "msl/error.h"
#include "npu/error.h"

namespace npu::cuda {

namespace {

Lowered unpacked(const EmbeddedLibrary& from) {
  Lowered library{std::string(from.name), std::string(from.text), {}, {}};
  for (int i = 0; i < from.constant_count; ++i)
    library.constants.push_back(
        {from.constants[i].number, from.constants[i].name, from.constants[i].required});
  for (int i = 0; i < from.kernel_count; ++i) {
    const EmbeddedKernel& kernel = from.kernels[i];
    library.kernels.push_back({kernel.name, kernel.call, {}});
    for (int k = 0; k < kernel.parameter_count; ++k) {
      const EmbeddedParameter& parameter = kernel.parameters[k];
      library.kernels.back().parameters.push_back(
          {parameter.kind, parameter.number, parameter.text, parameter.condition});
    }
  }
  return library;
}

Lowered lowered_now(std::string_view library, std::string_view prologue) {
  std::string text(prologue);
  const std::string file = std::string(library) + ".metal";
  if (!library.empty()) text += "\n#include \"" + file + "\"\n";
  return lower(text, library.empty() ? "generated" : "generated for " + file, gpu::kernel_file);
}

}  // namespace

Lowered lowered_library(std::string_view library, std::string_view prologue) {
  if (prologue.empty() && !gpu::kernels_are_replaced()) {
    for (const EmbeddedLibrary* one = kLibraries; !one->name.empty(); ++one) {
      if (one->name == library) return unpacked(*one);
    }
  }
  try {
    return lowered_now(library, prologue);
  } catch (const msl::SourceError& error) {
    throw Error(ErrorKind::kInternal,
                {.area = "cuda", .what = std::string("a kernel cannot be lowered: ") + error.what()});
  }
}

}  // namespace npu::cuda
