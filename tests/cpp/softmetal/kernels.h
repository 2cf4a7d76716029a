// What the tests of the shader machine share: kernels from a text, run on vectors in both modes.
#pragma once

#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "check/shadow.h"
#include "machine.h"
#include "support/check.h"

namespace npu::test {

using softmetal::Extent;
using softmetal::Mode;

struct Shape {
  Extent grid{32, 1, 1}, threads{32, 1, 1};
  std::vector<std::size_t> threadgroup_bytes;
};

inline Shape threads(unsigned count) { return {{count, 1, 1}, {count, 1, 1}, {}}; }
inline Shape groups(unsigned count, unsigned size) { return {{count * size, 1, 1}, {size, 1, 1}, {}}; }

class Kernels {
 public:
  explicit Kernels(const std::string& body)
      : library_(softmetal::Library::from_source(
            "#include <metal_stdlib>\nusing namespace metal;\n#line 1 \"test\"\n" + body)) {}

  // The constants of all functions from here on, by index.
  void set_constant(unsigned index, const void* value, std::size_t bytes) {
    constants_.push_back({index, "", std::string(static_cast<const char*>(value), bytes)});
  }
  void clear_constants() { constants_.clear(); }

  softmetal::Function function(const std::string& name, Mode mode = Mode::checked) {
    return softmetal::Function(library_, name, constants_, mode);
  }

  // Runs over vectors; a fault comes back as "kind: text", no fault as nothing.
  template <class... T>
  std::string run(Mode mode, const std::string& name, const Shape& shape, std::vector<T>&... vectors) {
    std::vector<softmetal::Binding> bindings{{vectors.data(), vectors.size() * sizeof(T)}...};
    return launch(mode, name, shape, bindings);
  }

  std::string launch(Mode mode, const std::string& name, const Shape& shape,
                     const std::vector<softmetal::Binding>& bindings) {
    const softmetal::Function kernel = function(name, mode);
    softmetal::Launch launch;
    launch.function = &kernel;
    launch.grid = shape.grid;
    launch.threads = shape.threads;
    for (std::size_t i = 0; i < bindings.size(); ++i) launch.buffers[i] = bindings[i];
    for (std::size_t i = 0; i < shape.threadgroup_bytes.size(); ++i)
      launch.threadgroup_bytes[i] = shape.threadgroup_bytes[i];
    auto fault = softmetal::run(launch);
    return fault ? std::string(softmetal::name_of(fault->kind)) + ": " + fault->text : "";
  }

 private:
  std::shared_ptr<softmetal::Library> library_;
  std::vector<softmetal::ConstantValue> constants_;
};

// Runs a kernel of one output in both modes, which must agree with what is expected of each element.
template <class T, class... Inputs>
void expect(Kernels& kernels, const std::string& name, const Shape& shape, std::size_t count,
            const std::function<T(std::size_t)>& expected, std::vector<Inputs>... inputs) {
  for (Mode mode : {Mode::fast, Mode::checked}) {
    std::vector<T> out(count, T{});
    const std::string fault = kernels.run(mode, name, shape, out, inputs...);
    if (!fault.empty()) report_failure(name.c_str(), 0, fault);
    for (std::size_t i = 0; i < count; ++i) {
      const T wanted = expected(i);
      if (std::memcmp(&out[i], &wanted, sizeof(T)) == 0 || out[i] == wanted) continue;
      report_failure(name.c_str(), 0,
                     "element " + std::to_string(i) + " is " + std::to_string(static_cast<double>(out[i])) +
                         ", expected " + std::to_string(static_cast<double>(wanted)));
      break;
    }
  }
}

// The text of what a source that does not compile throws.
inline std::string compile_error(const std::string& body) {
  try {
    Kernels(body).function("f", Mode::fast);
  } catch (const softmetal::MachineError& error) {
    return error.what();
  }
  return "it compiles";
}

}  // namespace npu::test

#define CHECK_CONTAINS(whole, fragment)                                         \
  if (const std::string actual = (whole); actual.find(fragment) == actual.npos) \
  npu::test::report_failure(__FILE__, __LINE__, "'" + actual + "' does not contain '" + (fragment) + "'")
