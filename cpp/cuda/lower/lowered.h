// A library of kernels as CUDA C++, and how its kernels are called.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace npu::cuda {

struct KernelParameter {
  enum class Kind : std::uint8_t {
    kArgs,         // a struct that is passed by value: `text` is its type
    kBuffer,       // a pointer: [[buffer(number)]]
    kThreadgroup,  // the dynamic shared memory
    kInput,        // `text` says what: thread_position_in_grid, ...
  };
  Kind kind = Kind::kInput;
  int number = 0;
  std::string text;
  std::string
      condition;  // of a buffer: the constant without which the kernel does not touch it; may be empty
};

struct LoweredKernel {
  std::string name;  // as launches name it
  std::string call;  // "softmax_dense<float>"
  std::vector<KernelParameter> parameters;
};

// A function constant: the text names it NPU_FC_<number>, its bits as an integer.
struct LoweredConstant {
  int number = 0;
  std::string name;
  bool required = true;  // no is_function_constant_defined asks for it
};

// One text serves all kernels and all values of constants; see entry.h for what is put around it.
struct Lowered {
  std::string name;
  std::string text;
  std::vector<LoweredConstant> constants;
  std::vector<LoweredKernel> kernels;

  // Its kernels wait for their inputs themselves: NPU_INPUTS_READY in metal/common.h.
  bool waits() const { return text.find("wait_for_inputs") != std::string::npos; }

  const LoweredKernel* find(const std::string& kernel) const {
    for (const LoweredKernel& one : kernels) {
      if (one.name == kernel) return &one;
    }
    return nullptr;
  }
};

}  // namespace npu::cuda
