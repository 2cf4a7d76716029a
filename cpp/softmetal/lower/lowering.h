// The passes of the lowering over the tokens of a source.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "msl/source.h"

namespace softmetal {

namespace msl = npu::msl;

class Lowering {
 public:
  explicit Lowering(msl::Source source) : source_(std::move(source)), tokens_(source_.tokens) {}
  std::string run();

 private:
  void lower_literals();

  // kernels.cpp
  void lower_kernel(const msl::Kernel& kernel);
  void lower_instantiation(const msl::Instantiation& instance);
  void lower_threadgroup_variables(const msl::ThreadgroupVariables& variables);
  std::string code(const msl::Parameter& parameter) const;
  std::string registration(const msl::Kernel& kernel, const std::string& function,
                           const std::string& host_name, const std::string& max_threads);

  // constants.cpp
  void lower_defined_queries();
  void lower_constant(const msl::Constant& constant);
  std::string function_constant(const msl::Constant& constant);
  std::string computed_constant(const msl::Constant& constant);

  void erase(msl::Range range);
  void replace(msl::Range range, const std::string& text);

  const msl::Source source_;
  msl::Tokens tokens_;  // of the source, rewritten
  int serial_ = 0;
};

}  // namespace softmetal
