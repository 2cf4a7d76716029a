// A compiled program, independent of any device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "npu/buffer.h"
#include "npu/dtype.h"
#include "npu/file.h"

namespace npu {

struct TensorSpec {
  std::string name;
  DType dtype = DType::kFloat32;
  std::vector<std::int64_t> shape;
  std::vector<std::string> names;  // further names it answers to
  bool required = true;            // of an input
  bool state = false;              // an input that a session may hold
  int alias = -1;                  // of an output: the input that it updates in place
};

struct ProgramModel;

class Program {
 public:
  // Throws Error when the file cannot be read or is not a valid program.
  static Program load(const std::string& path);
  static Program load(const File& file);                   // stays mapped
  static Program parse(std::span<const std::byte> bytes);  // copies them

  const std::string& model_name() const;
  const std::vector<TensorSpec>& inputs() const;
  const std::vector<TensorSpec>& outputs() const;
  const std::vector<TensorSpec>& weights() const;
  // Tensors that the program itself holds, such as buffers that no checkpoint has.
  const std::vector<TensorSpec>& constants() const;
  Buffer constant(const std::string& name) const;  // empty when there is none of that name
  std::string text() const;

  const ProgramModel& model() const;  // for the library itself

 private:
  struct State;
  std::shared_ptr<const State> state_;
};

}  // namespace npu
