#include "npu/build_info.h"

#include "git_describe.h"

namespace npu {

namespace {

std::string compiler_name() {
#if defined(__apple_build_version__)
  return "Apple clang " __clang_version__;
#elif defined(__clang__)
  return "clang " __clang_version__;
#elif defined(__GNUC__)
  return "gcc " __VERSION__;
#else
  return "unknown compiler";
#endif
}

std::string system_name() {
#if defined(__APPLE__)
  return "macos";
#elif defined(__linux__)
  return "linux";
#else
  return "unknown";
#endif
}

std::string architecture_name() {
#if defined(__x86_64__)
  return "x86_64";
#elif defined(__aarch64__)
  return "arm64";
#else
  return "unknown";
#endif
}

}  // namespace

const BuildInfo& build_info() {
  static const BuildInfo info{
      .version = NPU_VERSION,
      .git_describe = NPU_GIT_DESCRIBE,
      .compiler = compiler_name(),
      .flags = NPU_CXX_FLAGS,
      .build_type = NPU_BUILD_TYPE,
      .system = system_name(),
      .architecture = architecture_name(),
      .metal = false,
  };
  return info;
}

}  // namespace npu
