// nvrtc*: compiles nothing, but names the entries of a text and their parameters.
#include <chrono>
#include <cstring>
#include <string>
#include <thread>

#include "cuda/stand_in/kernel_format.h"
#include "cuda/stand_in/world.h"

namespace stand_in {

namespace {

constexpr const char* kEntry = "extern \"C\" __global__ void ";

std::string letters_of(const std::string& parameters) {
  std::string letters;
  std::size_t begin = 0;
  while (begin < parameters.size()) {
    const std::size_t comma = std::min(parameters.find(',', begin), parameters.size());
    const std::string one = parameters.substr(begin, comma - begin);
    letters += one.find('*') != std::string::npos ? kPointer : kValue;
    begin = comma + 1;
  }
  return letters;
}

}  // namespace

std::string kernels_of(const std::string& text) {
  std::string kernels = kMagic;
  for (std::size_t at = text.find(kEntry); at != std::string::npos; at = text.find(kEntry, at)) {
    at += std::strlen(kEntry);
    constexpr const char* kBounds = "__launch_bounds__(";
    if (text.compare(at, std::strlen(kBounds), kBounds) == 0) at = text.find(')', at) + 2;
    const std::size_t open = text.find('(', at), close = text.find(')', open);
    kernels += text.substr(at, open - at) + " " + letters_of(text.substr(open + 1, close - open - 1)) + "\n";
    at = close;
  }
  return kernels;
}

}  // namespace stand_in

namespace {

struct Program {
  std::string text, name, log, kernels;
};

// nvrtcResult
constexpr int kSuccess = 0, kInvalidInput = 3, kCompilation = 6;
constexpr int kArchitectures[] = {75, 80, 86, 89, 90, 100, 120};

Program* program_of(void* program) { return static_cast<Program*>(program); }

int give(const std::string& text, char* to) {
  std::memcpy(to, text.c_str(), text.size() + 1);
  return kSuccess;
}

}  // namespace

extern "C" {

// One that NVIDIA will not publish, so that nobody takes its kernels from a cache.
int nvrtcVersion(int* major, int* minor) {
  *major = 13;
  *minor = 9999;
  return kSuccess;
}

int nvrtcGetNumSupportedArchs(int* count) {
  *count = static_cast<int>(std::size(kArchitectures));
  return kSuccess;
}

int nvrtcGetSupportedArchs(int* architectures) {
  std::memcpy(architectures, kArchitectures, sizeof(kArchitectures));
  return kSuccess;
}

int nvrtcCreateProgram(void** program, const char* text, const char* name, int, const char* const*,
                       const char* const*) {
  *program = new Program{.text = text, .name = name, .log = {}, .kernels = {}};
  return kSuccess;
}

int nvrtcCompileProgram(void* handle, int, const char* const*) {
  stand_in::World& world = stand_in::World::get();
  std::this_thread::sleep_for(std::chrono::milliseconds(world.settings.compile_ms));
  const std::lock_guard lock(world.mutex);
  ++world.counters.compilations;
  Program& program = *program_of(handle);
  const std::string& refused = world.settings.refuse_kernel;
  if (!refused.empty() && program.name.find(refused) != std::string::npos) {
    program.log = program.name + "(1): error: the stand-in was told to refuse this kernel";
    return kCompilation;
  }
  program.kernels = stand_in::kernels_of(program.text);
  return kSuccess;
}

int nvrtcDestroyProgram(void** program) {
  delete program_of(*program);
  *program = nullptr;
  return kSuccess;
}

int nvrtcGetProgramLogSize(void* program, std::size_t* size) {
  *size = program_of(program)->log.size() + 1;
  return kSuccess;
}

int nvrtcGetProgramLog(void* program, char* log) { return give(program_of(program)->log, log); }

int nvrtcGetCUBINSize(void* program, std::size_t* size) {
  if (program_of(program)->kernels.empty()) return kInvalidInput;
  *size = program_of(program)->kernels.size() + 1;
  return kSuccess;
}

int nvrtcGetCUBIN(void* program, char* cubin) { return give(program_of(program)->kernels, cubin); }

const char* nvrtcGetErrorString(int code) {
  return code == kCompilation ? "NVRTC_ERROR_COMPILATION" : "an error of the stand-in";
}

}  // extern "C"
