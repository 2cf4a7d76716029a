// The passes of the lowering over the tokens of a source.
#pragma once

#include <string>
#include <utility>

#include "cuda/lower/lowered.h"
#include "msl/source.h"

namespace npu::cuda {

class Lowering {
 public:
  explicit Lowering(msl::Source source) : source_(std::move(source)), tokens_(source_.tokens) {}
  Lowered run();

 private:
  // lower.cpp
  void lower_words();
  void lower_swizzle(std::size_t word);
  void lower_inline(std::size_t word);
  void lower_literal(msl::Token& token);

  // constants.cpp
  void lower_constants();
  void lower_function_constant(const msl::Constant& constant);
  void lower_computed_constant(const msl::Constant& constant);

  // kernels.cpp
  void lower_kernel(const msl::Kernel& kernel);
  void add_kernel(const msl::Kernel& kernel, const std::string& host_name, const std::string& call);
  KernelParameter parameter(const msl::Parameter& parameter) const;

  void erase(msl::Range range);
  void replace(msl::Range range, const std::string& text);

  const msl::Source source_;
  msl::Tokens tokens_;  // of the source, rewritten
  Lowered result_;
};

}  // namespace npu::cuda
