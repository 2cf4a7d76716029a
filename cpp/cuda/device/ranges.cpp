#include "cuda/device/ranges.h"

#include <dlfcn.h>

#include <cstdlib>

#include "core/base/text.h"

namespace npu::cuda {

namespace {

struct Nvtx {
  int (*push)(const char*) = nullptr;
  int (*pop)() = nullptr;
};

// The library of CUDA 13, and that of earlier toolkits; PyTorch has loaded one of them, if it is there.
Nvtx load() {
  Nvtx nvtx;
  for (const char* const name : {"libnvtx3interop.so.1", "libnvtx3interop.so", "libnvToolsExt.so.1"}) {
    void* const library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) continue;
    nvtx.push = reinterpret_cast<int (*)(const char*)>(dlsym(library, "nvtxRangePushA"));
    nvtx.pop = reinterpret_cast<int (*)()>(dlsym(library, "nvtxRangePop"));
    if (nvtx.push != nullptr && nvtx.pop != nullptr) return nvtx;
  }
  return {};
}

const Nvtx& nvtx() {
  static const Nvtx once = names_are_wanted() ? load() : Nvtx{};
  return once;
}

}  // namespace

bool names_are_wanted() {
  static const bool wanted =
      environment_choice("NPU_NVTX", {"0", "1"}) == "1" || std::getenv("NVTX_INJECTION64_PATH") != nullptr;
  return wanted;
}

NamedRange::NamedRange(const std::string& name) {
  if (nvtx().push != nullptr) nvtx().push(name.c_str());
}

NamedRange::~NamedRange() {
  if (nvtx().pop != nullptr) nvtx().pop();
}

}  // namespace npu::cuda
