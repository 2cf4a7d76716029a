// The passes of the lowering over one list of tokens.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "lower.h"
#include "tokens.h"

namespace softmetal {

struct KernelParameter {
  std::string name;
  std::string condition;  // a function constant
  std::string code;       // C++ that says what is passed: softmetal::code(Source::buffer, 3)
};

struct KernelFunction {
  std::string name;
  std::string host_name;
  std::string max_threads = "0";
  std::vector<KernelParameter> parameters;
  bool is_template = false;
};

class Lowering {
 public:
  explicit Lowering(Tokens tokens) : tokens_(std::move(tokens)), list_(tokens_.list) {}
  std::string run();

 private:
  // literals.cpp
  void check_words();
  void lower_literals();

  // lower.cpp: declarations at namespace scope
  void lower_declarations(size_t begin, size_t end);
  size_t lower_declaration(size_t begin, size_t end);
  size_t skip_declaration(size_t begin) const;
  size_t lower_namespace(size_t begin);

  // kernels.cpp
  size_t lower_kernel(size_t begin, size_t open, bool is_template);
  size_t lower_instantiation(size_t begin);
  void lower_attributes(size_t begin, size_t end, KernelFunction& kernel);
  KernelParameter lower_parameter(size_t begin, size_t end);
  void read_parameter_attribute(size_t begin, size_t end, KernelParameter& parameter);
  void lower_threadgroup_variables(size_t begin, size_t end);
  size_t lower_threadgroup_variable(size_t begin);
  std::string registration(const KernelFunction& kernel, const std::string& function);

  // constants.cpp
  void lower_constant(size_t begin, size_t end);
  void lower_function_constant(size_t begin, size_t attribute, size_t end);
  bool depends_on_constants(size_t begin, size_t end) const;
  void lower_defined_queries();

  size_t matching(size_t open) const;  // the token that closes the bracket at `open`
  size_t find(size_t begin, size_t end, const char* spelling) const;  // outside of brackets; end if absent
  size_t after_template_list(size_t open) const;
  std::string text(size_t begin, size_t end) const;
  void erase(size_t begin, size_t end);
  [[noreturn]] void fail(size_t at, const std::string& what) const;

  Tokens tokens_;
  std::vector<Token>& list_;
  std::map<std::string, KernelFunction> kernels_;
  std::set<std::string> constants_;  // function constants, and those computed from them
  std::set<std::string> optional_constants_;
  int serial_ = 0;
};

}  // namespace softmetal
