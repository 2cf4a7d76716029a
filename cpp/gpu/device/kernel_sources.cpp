#include "gpu/device/kernel_sources.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>

#include "npu/error.h"

namespace npu::gpu {

namespace {

constexpr const char* kFolder = "NPU_KERNEL_FOLDER";

// The folder that a developer names, or nothing.
std::string replacing_folder() {
  const char* const folder = std::getenv(kFolder);
  if (folder == nullptr || *folder == '\0') return {};
  if (std::filesystem::is_directory(folder)) return folder;
  throw Error(ErrorKind::kInvalidValue,
              {.area = "environment",
               .what = std::string("the environment variable ") + kFolder + " does not name a folder",
               .got = npu::quoted(folder),
               .expected = "a folder of kernels",
               .action = "unsetting it to use those of the build"});
}

std::string find_file(const std::string& name) {
  if (std::optional<std::string> text = kernel_file(name)) return *std::move(text);
  throw Error(ErrorKind::kInternal, {.area = "gpu", .what = "there is no kernel file " + npu::quoted(name)});
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
    const std::string name(rest.substr(0, rest.find('"')));
    if (included.insert(name).second) append(to, find_file(name), included);
  }
}

}  // namespace

// Of a file in the folder that a developer names, or else of the build.
std::optional<std::string> kernel_file(const std::string& name) {
  if (const std::string folder = replacing_folder(); !folder.empty()) {
    std::ifstream file(folder + "/" + name);
    if (file) return std::string(std::istreambuf_iterator<char>(file), {});
  }
  for (int i = 0; i < kKernelFileCount; ++i) {
    if (kKernelFiles[i].name == name) return std::string(kKernelFiles[i].text);
  }
  return std::nullopt;
}

bool kernels_are_replaced() { return !replacing_folder().empty(); }

std::string kernel_source(std::string_view library, std::string_view prologue) {
  std::string source;
  std::set<std::string> included;
  append(source, prologue, included);
  if (!library.empty()) append(source, find_file(std::string(library) + ".metal"), included);
  return source;
}

}  // namespace npu::gpu
