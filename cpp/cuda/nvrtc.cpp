#include "cuda/nvrtc.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "npu/error.h"

namespace npu::cuda {

namespace fs = std::filesystem;

namespace {

constexpr int kOldest = 12;  // major version: the first with C++20
constexpr const char* kVariable = "NPU_NVRTC";

// The wheel of NVRTC must not be newer than the driver.
std::string install_for(int newest) {
  return newest == kOldest ? "pip install 'npu-simulation[cuda12]'" : "pip install 'npu-simulation[cuda]'";
}

std::string environment(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// libnvrtc.so.13 and its like in a folder, the newest first.
std::vector<std::string> libraries_in(const fs::path& folder) {
  std::vector<std::string> paths;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("libnvrtc.so")) paths.push_back(entry.path().string());
  }
  std::sort(paths.rbegin(), paths.rend());
  return paths;
}

// What may be loaded, in order.
std::vector<std::string> candidates(std::span<const std::string> site_packages) {
  std::vector<std::string> paths;
  const auto add = [&](const fs::path& folder) {
    for (std::string& path : libraries_in(folder)) paths.push_back(std::move(path));
  };
  for (const std::string& site : site_packages) {
    std::vector<fs::path> packages;  // cu13, cuda_nvrtc
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(fs::path(site) / "nvidia", ignored))
      packages.push_back(entry.path());
    std::sort(packages.begin(), packages.end());
    for (const fs::path& package : packages) add(package / "lib");
  }
  for (const std::string& toolkit :
       {environment("CUDA_HOME"), environment("CUDA_PATH"), std::string("/usr/local/cuda")}) {
    if (!toolkit.empty()) add(fs::path(toolkit) / "lib64");
  }
  for (const char* const name : {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"}) paths.emplace_back(name);
  return paths;
}

[[noreturn]] void unavailable(const std::string& what, const std::string& got, int newest,
                              const std::string& action) {
  const std::string last = newest == 0 ? "or newer" : "to " + std::to_string(newest);
  throw Error(ErrorKind::kUnavailable, {.area = "cuda",
                                        .what = what,
                                        .got = got,
                                        .expected = "NVRTC " + std::to_string(kOldest) + " " + last,
                                        .action = action});
}

}  // namespace

struct Nvrtc::Api {
  using Program = void*;
  int (*version)(int*, int*) = nullptr;
  int (*architecture_count)(int*) = nullptr;
  int (*architectures)(int*) = nullptr;
  int (*create)(Program*, const char*, const char*, int, const char* const*, const char* const*) = nullptr;
  int (*compile)(Program, int, const char* const*) = nullptr;
  int (*destroy)(Program*) = nullptr;
  int (*log_size)(Program, std::size_t*) = nullptr;
  int (*log)(Program, char*) = nullptr;
  int (*cubin_size)(Program, std::size_t*) = nullptr;
  int (*cubin)(Program, char*) = nullptr;
  const char* (*error_text)(int) = nullptr;

  // Null where the library lacks a function. It stays loaded: kernels may be compiled while a process ends.
  static std::shared_ptr<const Api> of(void* library) {
    const auto api = std::make_shared<Api>();
    bool whole = true;
    const auto find = [&](const char* name, auto& function) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
      whole = whole && function != nullptr;
    };
    find("nvrtcVersion", api->version);
    find("nvrtcGetNumSupportedArchs", api->architecture_count);
    find("nvrtcGetSupportedArchs", api->architectures);
    find("nvrtcCreateProgram", api->create);
    find("nvrtcCompileProgram", api->compile);
    find("nvrtcDestroyProgram", api->destroy);
    find("nvrtcGetProgramLogSize", api->log_size);
    find("nvrtcGetProgramLog", api->log);
    find("nvrtcGetCUBINSize", api->cubin_size);
    find("nvrtcGetCUBIN", api->cubin);
    find("nvrtcGetErrorString", api->error_text);
    return whole ? api : nullptr;
  }
};

Nvrtc::Nvrtc(std::string path, std::shared_ptr<const Api> api)
    : path_(std::move(path)), api_(std::move(api)) {
  api_->version(&major_, &minor_);
}

std::shared_ptr<const Nvrtc> Nvrtc::open(std::span<const std::string> site_packages, int newest) {
  const std::string named = environment(kVariable);
  std::string tried;
  bool too_new = false;
  const auto load = [&](const std::string& path) -> std::shared_ptr<const Nvrtc> {
    void* const library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    const char* const reason = library == nullptr ? dlerror() : nullptr;
    const std::shared_ptr<const Api> api = library == nullptr ? nullptr : Api::of(library);
    if (api != nullptr) {
      const std::shared_ptr<const Nvrtc> nvrtc(new Nvrtc(path, api));
      if (nvrtc->major() >= kOldest && (newest == 0 || nvrtc->major() <= newest)) return nvrtc;
      too_new = too_new || nvrtc->major() >= kOldest;
      tried += "\n  " + path + ": version " + std::to_string(nvrtc->major()) + "." +
               std::to_string(nvrtc->minor());
    } else {
      tried += "\n  " + (reason != nullptr ? std::string(reason) : path + ": functions are missing");
    }
    return nullptr;
  };
  if (!named.empty()) {
    if (auto nvrtc = load(named)) return nvrtc;
    unavailable(std::string("the environment variable ") + kVariable + " names no library that can be used",
                tried, newest, "unsetting it, or " + install_for(newest));
  }
  for (const std::string& path : candidates(site_packages)) {
    if (auto nvrtc = load(path)) return nvrtc;
  }
  const std::string nvrtc = "NVRTC, which compiles kernels for NVIDIA GPUs, ";
  unavailable(nvrtc + (too_new ? "is too new for the NVIDIA driver" : "was not found"), tried, newest,
              install_for(newest));
}

bool Nvrtc::supports(const std::string& architecture) const {
  int count = 0;
  if (api_->architecture_count(&count) != 0 || count <= 0) return false;
  std::vector<int> numbers(static_cast<std::size_t>(count));
  if (api_->architectures(numbers.data()) != 0) return false;
  return std::any_of(numbers.begin(), numbers.end(),
                     [&](int number) { return architecture == "sm_" + std::to_string(number); });
}

Nvrtc::Result Nvrtc::compile(const std::string& text, const std::string& name,
                             std::span<const std::string> options) const {
  const auto check = [&](int code, const char* call) {
    if (code == 0) return;
    throw Error(
        ErrorKind::kInternal,
        {.area = "cuda", .what = std::string(call) + " failed for " + name, .got = api_->error_text(code)});
  };
  Api::Program program = nullptr;
  check(api_->create(&program, text.c_str(), name.c_str(), 0, nullptr, nullptr), "nvrtcCreateProgram");
  const auto destroy = [this](void* p) { api_->destroy(&p); };
  const std::unique_ptr<void, decltype(destroy)> owner(program, destroy);

  std::vector<const char*> arguments;
  for (const std::string& option : options) arguments.push_back(option.c_str());
  Result result;
  result.compiled = api_->compile(program, static_cast<int>(arguments.size()), arguments.data()) == 0;
  std::size_t size = 0;
  check(api_->log_size(program, &size), "nvrtcGetProgramLogSize");
  result.log.resize(size);
  check(api_->log(program, result.log.data()), "nvrtcGetProgramLog");
  while (!result.log.empty() && result.log.back() == '\0') result.log.pop_back();
  if (!result.compiled) return result;
  check(api_->cubin_size(program, &size), "nvrtcGetCUBINSize");
  result.cubin.resize(size);
  check(api_->cubin(program, result.cubin.data()), "nvrtcGetCUBIN");
  return result;
}

}  // namespace npu::cuda
