// The files of metal/ and of cpp/cuda/kernels, which every build carries as text.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace npu::gpu {

struct KernelFile {
  std::string_view name, text;
};

extern const KernelFile kKernelFiles[];  // generated
extern const int kKernelFileCount;

// `prologue` and then the library's file, with every file that they include where it is first
// asked for. Without a library the prologue is all.
std::string kernel_source(std::string_view library, std::string_view prologue = {});

// The text of a file of metal/, also of one in the folder that the environment names; nothing if there is
// none.
std::optional<std::string> kernel_file(const std::string& name);

// Whether the environment names a folder of kernels to use instead.
bool kernels_are_replaced();

}  // namespace npu::gpu
