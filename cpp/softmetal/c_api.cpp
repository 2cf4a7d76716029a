#include "c_api.h"

#include <functional>
#include <sstream>

#include "check/shadow.h"
#include "image.h"
#include "machine.h"

namespace {

using softmetal::CompileOptions;
using softmetal::Mode;

thread_local std::string last_error, last_text;

using Handle = std::shared_ptr<softmetal::Library>;

std::vector<std::string> lines_of(const char* text) {
  std::vector<std::string> lines;
  std::istringstream in(text ? text : "");
  for (std::string line; std::getline(in, line);)
    if (!line.empty()) lines.push_back(line);
  return lines;
}

CompileOptions options_of(const char* name, const char* includes, const char* macros) {
  CompileOptions options;
  if (name && *name) options.name = name;
  options.include_directories = lines_of(includes);
  for (const std::string& line : lines_of(macros)) {
    size_t assign = line.find('=');
    options.macros[line.substr(0, assign)] = assign == std::string::npos ? "1" : line.substr(assign + 1);
  }
  return options;
}

// Null, or what `work` returns; an exception becomes the last error.
template <class F>
auto guarded(F work) -> decltype(work()) {
  try {
    return work();
  } catch (const std::exception& error) {
    last_error = error.what();
    return nullptr;
  }
}

softmetal::Launch launch_of(const softmetal_launch& asked,
                            std::vector<std::unique_ptr<softmetal::Shadow>>& shadows) {
  softmetal::Launch launch;
  for (size_t i = 0; i < asked.buffer_count && i < softmetal::kMaxBuffers; ++i) {
    const softmetal_buffer& buffer = asked.buffers[i];
    launch.buffers[i] = {buffer.data, buffer.bytes};
    if (!asked.checked || !buffer.data) continue;
    shadows.push_back(
        std::make_unique<softmetal::Shadow>(buffer.data, buffer.bytes, buffer.initialised != 0));
    launch.buffers[i].shadow = shadows.back().get();
  }
  for (size_t i = 0; i < asked.threadgroup_count && i < softmetal::kMaxThreadgroupArguments; ++i)
    launch.threadgroup_bytes[i] = asked.threadgroup_bytes[i];
  launch.grid = {asked.grid[0], asked.grid[1], asked.grid[2]};
  launch.threads = {asked.threads[0], asked.threads[1], asked.threads[2]};
  return launch;
}

void run(void* library, const softmetal_launch& asked) {
  std::vector<softmetal::ConstantValue> constants;
  for (size_t i = 0; i < asked.constant_count; ++i) {
    const softmetal_constant& c = asked.constants[i];
    constants.push_back(
        {c.index, c.name ? c.name : "", std::string(static_cast<const char*>(c.data), c.bytes)});
  }
  Mode mode = asked.checked ? Mode::checked : Mode::fast;
  softmetal::Function function(*static_cast<Handle*>(library), asked.kernel, std::move(constants), mode);
  std::vector<std::unique_ptr<softmetal::Shadow>> shadows;
  softmetal::Launch launch = launch_of(asked, shadows);
  launch.function = &function;
  if (auto fault = softmetal::run(launch))
    throw softmetal::MachineError(std::string(softmetal::name_of(fault->kind)) + ": " + fault->text);
}

}  // namespace

extern "C" {

void* softmetal_open(const char* source, const char* name, const char* includes, const char* macros) {
  return guarded([&]() -> void* {
    return new Handle(softmetal::Library::from_source(source, options_of(name, includes, macros)));
  });
}

void softmetal_close(void* library) { delete static_cast<Handle*>(library); }

const char* softmetal_error(void) { return last_error.c_str(); }

const char* softmetal_lowered(const char* source, const char* name, const char* includes,
                              const char* macros) {
  return guarded([&]() -> const char* {
    last_text = softmetal::lowered_text(source, options_of(name, includes, macros));
    return last_text.c_str();
  });
}

const char* softmetal_functions(void* library, int checked) {
  return guarded([&]() -> const char* {
    last_text.clear();
    for (const std::string& name :
         (*static_cast<Handle*>(library))->function_names(checked ? Mode::checked : Mode::fast))
      last_text += name + "\n";
    return last_text.c_str();
  });
}

const char* softmetal_run(void* library, const softmetal_launch* launch) {
  try {
    run(library, *launch);
    return nullptr;
  } catch (const std::exception& error) {
    last_error = error.what();
    return last_error.c_str();
  }
}
}
