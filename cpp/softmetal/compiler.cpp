// MSL text to a shared library: preprocess, lower, compile; with a cache on disk.
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "image.h"
#include "lower/lower.h"
#include "msl/error.h"
#include "process.h"

namespace softmetal {

namespace fs = std::filesystem;

namespace {

std::string environment(const char* name, const std::string& otherwise) {
  const char* value = std::getenv(name);
  return value && *value ? value : otherwise;
}

std::string compiler_path() { return environment("SOFTMETAL_CLANG", SOFTMETAL_DEFAULT_CLANG); }
std::string header_path() { return environment("SOFTMETAL_HEADERS", SOFTMETAL_DEFAULT_HEADERS); }

fs::path cache_path() {
  std::string home = environment("HOME", fs::temp_directory_path().string());
  std::string user = environment("XDG_CACHE_HOME", home + "/.cache");
  return environment("SOFTMETAL_CACHE", user + "/npu-simulation/softmetal");
}

std::string read(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  if (!in) throw MachineError("cannot read " + path.string());
  return text.str();
}

// FNV-1a over two lanes: names of cache entries, not a defence.
class Hash {
 public:
  void add(const std::string& text) {
    for (unsigned char c : text) step(c);
    step(256);
  }
  std::string hex() const {
    char text[40];
    std::snprintf(text, sizeof text, "%016llx%016llx", a_, b_);
    return text;
  }

 private:
  void step(unsigned c) {
    a_ = (a_ ^ c) * 0x100000001b3ull;
    b_ = (b_ + c) * 0x9e3779b97f4a7c15ull;
    b_ ^= b_ >> 29;
  }
  unsigned long long a_ = 0xcbf29ce484222325ull, b_ = 0x243f6a8885a308d3ull;
};

// What all entries depend on: the headers, the compiler, this library's own lowering.
const std::string& foundation() {
  static const std::string text = [] {
    Hash hash;
    std::vector<fs::path> files;
    for (const auto& entry : fs::recursive_directory_iterator(header_path()))
      if (entry.is_regular_file()) files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    for (const fs::path& file : files) hash.add(file.filename().string() + read(file));
    hash.add(run_process({compiler_path(), "--version"}).output);
    hash.add(SOFTMETAL_BUILD_STAMP);
    return hash.hex();
  }();
  return text;
}

std::string architecture() {
#if defined(__x86_64__)
  bool modern =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  return modern ? "-march=x86-64-v3" : "-march=x86-64-v2";
#else
  return "-march=armv8.2-a+fp16";
#endif
}

std::vector<std::string> compile_flags(Mode mode) {
  std::vector<std::string> flags{
      "-x",
      "c++",
      "-std=c++20",
      architecture(),
      "-fPIC",
      "-shared",
      "-nostdinc",
      "-I" + header_path(),
      "-ferror-limit=5",
      "-w",
      "-fvisibility=hidden",
      "-fdeclspec",
      "-fsigned-char",
      "-fno-rtti",
      "-fno-exceptions",
      "-fno-math-errno",
      "-fno-trapping-math",
      "-fno-threadsafe-statics",
      "-fno-strict-aliasing",
      "-fno-strict-float-cast-overflow",  // saturates, NaN to 0
      "-fno-asynchronous-unwind-tables",
      "-fconvergent-functions",
      "-ffp-contract=on",
      "-Xclang",
      "-ffloat16-excess-precision=none",
      "-ftemplate-backtrace-limit=4",
      "-fno-stack-protector",
  };
  auto add = [&](std::initializer_list<const char*> more) {
    flags.insert(flags.end(), more.begin(), more.end());
  };
  if (mode == Mode::fast)
    add({"-O2"});
  else  // every access calls a hook; none may be left out because another one was near
    add({"-O1", "-gline-tables-only", "-ffile-compilation-dir=.", "-DSOFTMETAL_CHECKED",
         "-fsanitize=kernel-address,alignment", "-fsanitize-recover=alignment", "-mllvm",
         "-asan-instrumentation-with-call-threshold=0", "-mllvm", "-asan-stack=0", "-mllvm",
         "-asan-globals=0", "-mllvm", "-asan-opt-same-temp=0", "-mllvm",
         "-asan-kernel-mem-intrinsic-prefix=1"});
  return flags;
}

std::vector<std::string> preprocess_flags(const CompileOptions& options) {
  std::vector<std::string> flags{"-E",
                                 "-x",
                                 "c++",
                                 "-std=c++17",
                                 "-nostdinc",
                                 "-DSOFTMETAL_PREPROCESSING",
                                 "-D__METAL__=1",
                                 "-D__METAL_VERSION__=310",
                                 "-D__METAL_MACOS__=1",
                                 "-D__HAVE_BFLOAT__=1",
                                 "-I" + header_path()};
  for (const std::string& directory : options.include_directories) flags.push_back("-I" + directory);
  for (const auto& [name, value] : options.macros) flags.push_back("-D" + name + "=" + value);
  return flags;
}

[[noreturn]] void fail(const std::string& name, const std::string& errors) {
  throw MachineError("cannot compile " + name + ":\n" + errors);
}

// The text comes in by standard input; the line markers call it by its name.
std::string preprocess(const std::string& source, const CompileOptions& options) {
  std::vector<std::string> command{compiler_path()};
  for (const std::string& flag : preprocess_flags(options)) command.push_back(flag);
  command.push_back("-");
  ProcessResult result = run_process(command, "#line 1 \"" + options.name + "\"\n" + source);
  if (result.status != 0) fail(options.name, result.errors);
  return result.output;
}

// The text of every file that a source may include, whatever its conditions say: what a cache entry depends
// on. It is gathered by reading lines, since to ask the preprocessor takes longer than a small kernel runs.
class Includes {
 public:
  explicit Includes(const CompileOptions& options) : options_(options) {}

  std::string of(const std::string& source, const fs::path& folder = ".") {
    std::string all;
    std::istringstream lines(source);
    for (std::string line; std::getline(lines, line);) {
      const size_t mark = line.find_first_not_of(" \t");
      if (mark == std::string::npos || line[mark] != '#' || line.find("include", mark) == std::string::npos)
        continue;
      const size_t open = line.find_first_of("\"<");
      if (open == std::string::npos || line.compare(open, 7, "<metal_") == 0) continue;
      const std::string name = line.substr(open + 1, line.find_first_of("\">", open + 1) - open - 1);
      const fs::path file = find(name, folder);
      if (file.empty() || !seen_.insert(file.string()).second) continue;
      const std::string text = read(file);
      all += name + "\n" + text + of(text, file.parent_path());
    }
    return all;
  }

 private:
  fs::path find(const std::string& name, const fs::path& folder) const {
    if (fs::is_regular_file(folder / name)) return folder / name;
    for (const std::string& directory : options_.include_directories)
      if (fs::is_regular_file(fs::path(directory) / name)) return fs::path(directory) / name;
    return {};
  }

  const CompileOptions& options_;
  std::set<std::string> seen_;
};

std::string cache_key(const std::string& text, const CompileOptions& options, Mode mode) {
  Hash hash;
  hash.add(foundation());
  hash.add(text);
  hash.add(options.name);
  for (const auto& [name, value] : options.macros) hash.add(name + "=" + value);
  for (const std::string& flag : compile_flags(mode)) hash.add(flag);
  return hash.hex();
}

std::string lower_or_fail(const std::string& preprocessed, const std::string& name) {
  try {
    return lower(preprocessed, name);
  } catch (const npu::msl::SourceError& error) {
    fail(name, error.what());
  }
}

// Of several processes that want the same library one compiles it, while the others wait.
class BuildLock {
 public:
  BuildLock(const fs::path& folder, const std::string& file)
      : descriptor_(
            open((folder / (".lock-" + file.substr(0, 2))).c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0666)) {
    if (descriptor_ >= 0) flock(descriptor_, LOCK_EX);
  }
  ~BuildLock() {
    if (descriptor_ >= 0) close(descriptor_);
  }
  BuildLock(const BuildLock&) = delete;
  BuildLock& operator=(const BuildLock&) = delete;

 private:
  int descriptor_;
};

// Compiled under a name of its own and then renamed, so that other processes see all of a file or none.
void build(const std::string& lowered, const std::string& name, Mode mode, const fs::path& target) {
  static std::atomic<int> serial{0};
  std::string own = std::to_string(getpid()) + "." + std::to_string(++serial);
  fs::path temporary = target.string() + "." + own;
  std::vector<std::string> command{compiler_path()};
  for (const std::string& flag : compile_flags(mode)) command.push_back(flag);
  for (const char* part : {"-o", temporary.c_str(), "-"}) command.push_back(part);
  if (mode == Mode::fast) command.push_back("-lm");
  if (std::getenv("SOFTMETAL_KEEP")) std::ofstream(target.string() + ".cpp") << lowered;
  ProcessResult result = run_process(command, lowered);
  if (result.status != 0) {
    std::error_code ignored;
    fs::remove(temporary, ignored);
    fail(name, result.errors);
  }
  fs::rename(temporary, target);
}

}  // namespace

std::string lowered_text(const std::string& source, const CompileOptions& options) {
  return lower_or_fail(preprocess(source, options), options.name);
}

std::string compile(const std::string& source, const CompileOptions& options, Mode mode) {
  std::string text = source + Includes(options).of(source);
  fs::path folder = cache_path();
  std::string file = cache_key(text, options, mode) + ".so";
  for (const fs::path& directory :
       {fs::path(environment("SOFTMETAL_PREBUILT", SOFTMETAL_DEFAULT_PREBUILT)), folder})
    if (!directory.empty() && fs::exists(directory / file)) return (directory / file).string();
  fs::create_directories(folder);
  BuildLock lock(folder, file);
  if (fs::exists(folder / file)) return (folder / file).string();
  build(lowered_text(source, options), options.name, mode, folder / file);
  return (folder / file).string();
}

}  // namespace softmetal
