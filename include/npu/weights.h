// The tensors of a model by name, and the forms that executors have prepared from them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "npu/buffer.h"
#include "npu/file.h"
#include "npu/program.h"

namespace npu {

// Called from the loading thread: steps done, of how many.
using Progress = std::function<void(std::int64_t done, std::int64_t total)>;

// Makes a tensor, with the same values each time; must not use the weights that it is for.
using MakeTensor = std::function<Buffer()>;

class PreparedWeights;

class Weights {
 public:
  Weights();  // none

  // .safetensors, or the .safetensors.index.json of several. The file is mapped, not read.
  static Weights load(const std::string& path);
  static Weights load(const File& file);  // safetensors that are, or are a part of, a file

  void set(const std::string& name,
           Buffer tensor);  // replaces the tensor and drops what was prepared from it
  // A tensor that is made when it is read. It stays in memory only where programs read it as it is, and is
  // dropped where they read something prepared from it.
  void defer(const std::string& name, DType dtype, std::vector<std::int64_t> shape, MakeTensor make);
  bool has(const std::string& name) const;
  Buffer get(const std::string& name) const;  // empty when there is none of that name
  std::vector<std::string> names() const;
  std::size_t prepared_bytes() const;  // of what executors have prepared and keep in memory, each once

  // Throws Error when `program` could not run with these: a weight is missing, or has another shape or dtype.
  void check(const Program& program) const;

  // Seeded random values for everything that `program` reads: to measure without a checkpoint. The second
  // form makes only one of them, with the same values.
  static Weights random(const Program& program, std::uint64_t seed = 0);
  static Weights random(const Program& program, std::uint64_t seed, const std::string& only);

  struct State;
  State& state() const { return *state_; }  // for the library itself

 private:
  std::shared_ptr<State> state_;
};

}  // namespace npu
