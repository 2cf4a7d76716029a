#include "kernel_sources.h"

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <set>

#include "npu/error.h"

namespace npu::gpu {

namespace {

constexpr const char* kFolder = "NPU_KERNEL_FOLDER";

// The text of a file of metal/: that of the build, or of the folder that a developer names.
std::string find_file(std::string_view name) {
  if (const char* const folder = std::getenv(kFolder)) {
    std::ifstream file(std::string(folder) + "/" + std::string(name));
    if (file) return std::string(std::istreambuf_iterator<char>(file), {});
  }
  for (int i = 0; i < kKernelFileCount; ++i) {
    if (kKernelFiles[i].name == name) return std::string(kKernelFiles[i].text);
  }
  throw Error(ErrorKind::kInternal,
              {.area = "gpu", .what = "there is no kernel file " + npu::quoted(std::string(name))});
}

// Files are included by lines of this form, and once.
void append(std::string& to, std::string_view text, std::set<std::string>& included) {
  constexpr std::string_view kInclude = "#include \"", kOnce = "#pragma once";
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(line.size() < text.size() ? line.size() + 1 : text.size());
    if (line.starts_with(kOnce)) continue;
    if (!line.starts_with(kInclude)) {
      to.append(line).append("\n");
      continue;
    }
    const std::string_view rest = line.substr(kInclude.size());
    const std::string_view name = rest.substr(0, rest.find('"'));
    if (included.emplace(name).second) append(to, find_file(name), included);
  }
}

}  // namespace

bool kernels_are_replaced() { return std::getenv(kFolder) != nullptr; }

std::string kernel_source(std::string_view library, std::string_view prologue) {
  std::string source;
  std::set<std::string> included;
  append(source, prologue, included);
  if (!library.empty()) append(source, find_file(std::string(library) + ".metal"), included);
  return source;
}

}  // namespace npu::gpu
