// The shader machine: compiles MSL to a library for this CPU and runs its kernels, the threads of a
// threadgroup as fibers. Nothing here knows of Objective-C; the Metal API is built on top.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "msl/softmetal/abi.h"

namespace softmetal {

// A source that does not compile, a library without such a function, a constant that is missing.
struct MachineError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Fast runs kernels as they are, on several host threads. Checked knows of every access.
enum class Mode { fast, checked };

struct CompileOptions {
  std::vector<std::string> include_directories;
  std::map<std::string, std::string> macros;
  std::string name = "program_source";  // what errors call the text
};

// What went wrong in a dispatch; `text` says all of it in one line, the rest in parts.
struct Fault {
  enum Kind {
    out_of_bounds,
    misaligned,
    read_only,
    race,
    uninitialised,
    divergence,
    missing_barrier,
    launch,  // refused before any thread ran
  };
  Kind kind = launch;
  std::string kernel, text;
  Extent threadgroup{}, thread{};
  int buffer = -1;                 // index, or -1
  std::size_t begin = 0, end = 0;  // bytes of the buffer
};

const char* name_of(Fault::Kind kind);

class Image;

// One source text. Its images, one for each mode, are compiled or found in the cache when first asked for.
class Library : public std::enable_shared_from_this<Library> {
 public:
  static std::shared_ptr<Library> from_source(std::string source, CompileOptions options = {});
  static std::shared_ptr<Library> from_file(const std::string& path, CompileOptions options = {});
  ~Library();

  std::vector<std::string> function_names(Mode mode) const;
  const Image& image(Mode mode) const;

 private:
  Library(std::string source, CompileOptions options);
  struct State;
  std::unique_ptr<State> state_;
};

// The value of a function constant, set by index or, where the name is not empty, by name.
struct ConstantValue {
  unsigned index = 0;
  std::string name;
  std::string bytes;
  char kind = 0;  // as in ConstantEntry; 0: not checked
  unsigned lanes = 1;
};

class Function {
 public:
  Function(std::shared_ptr<const Library> library, const std::string& name,
           std::vector<ConstantValue> constants, Mode mode);

  const std::string& name() const { return name_; }
  Mode mode() const { return mode_; }
  const KernelEntry& entry() const { return *entry_; }
  const Layout& layout() const { return *layout_; }
  unsigned max_threads() const;
  const std::vector<Argument>& arguments() const { return arguments_; }  // that these constants ask for
  const Image& image() const;
  void set_constants() const;  // for kernels that this host thread runs from now on

 private:
  void check_constants() const;
  void find_arguments();

  std::shared_ptr<const Library> library_;
  std::string name_;
  std::vector<ConstantValue> constants_;
  Mode mode_;
  const KernelEntry* entry_;
  const Layout* layout_;
  std::vector<Argument> arguments_;
};

class Shadow;

// Memory that a kernel may reach through a buffer argument: from `data` on, `bytes` of it.
struct Binding {
  void* data = nullptr;
  std::size_t bytes = 0;
  Shadow* shadow = nullptr;       // of the whole allocation; checked mode only, may be null
  std::size_t shadow_offset = 0;  // of `data` in it
};

struct Launch {
  const Function* function = nullptr;
  Binding buffers[kMaxBuffers];
  std::size_t threadgroup_bytes[kMaxThreadgroupArguments] = {};
  Extent threads{1, 1, 1};  // per threadgroup
  Extent grid{1, 1, 1};     // in threads; threadgroups at its edges may be smaller
};

class Hazards;

// Runs to the end, or to the first fault. `hazards` knows the dispatches that came before in an encoder.
std::optional<Fault> run(const Launch& launch, Hazards* hazards = nullptr);

// What the machine would refuse to launch, without running it.
std::optional<Fault> check_launch(const Launch& launch);

constexpr std::size_t kMaxThreadgroupMemory = 32768;

// With SOFTMETAL_TENSOR_CORES=1, kernels for NVIDIA's tensor cores run here too, which have more of it.
constexpr std::size_t kTensorMemory = 227 << 10;
bool has_tensor_cores();
inline std::size_t threadgroup_memory() { return has_tensor_cores() ? kTensorMemory : kMaxThreadgroupMemory; }

}  // namespace softmetal
