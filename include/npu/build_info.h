// How this library was built.
#pragma once

#include <string>

namespace npu {

struct BuildInfo {
  std::string version;       // as in pyproject.toml
  std::string git_describe;  // empty when not built from a git checkout
  std::string compiler;      // name and version
  std::string flags;         // the compiler flags chosen for this build
  std::string build_type;    // Release, Debug, ...
  std::string system;        // linux or macos
  std::string architecture;  // x86_64 or arm64
  bool metal = false;        // whether the Metal driver is part of this build
};

const BuildInfo& build_info();

}  // namespace npu
