// Reads the declarations of a source; see source.h.
#pragma once

#include <set>
#include <string>

#include "msl/source.h"

namespace npu::msl {

class Parser {
 public:
  explicit Parser(Tokens tokens) { source_.tokens = std::move(tokens); }
  Source run();

 private:
  // parser.cpp
  void check_words() const;
  void read_declarations(std::size_t begin, std::size_t end);
  std::size_t read_declaration(std::size_t begin, std::size_t end);  // past it
  std::size_t read_namespace(std::size_t begin);
  std::size_t past_declaration(std::size_t begin) const;
  std::size_t past_template_list(std::size_t open) const;

  // parse_kernels.cpp
  std::size_t read_kernel(std::size_t begin, std::size_t marker, bool is_template);
  std::size_t read_instantiation(std::size_t begin);
  Range instantiated_name(std::size_t begin) const;
  template <class Declared>
  std::vector<Range> read_attributes(Range range, Declared& declared) const;
  Parameter read_parameter(Range range) const;
  void read_parameter_attribute(Range range, Parameter& parameter) const;
  void read_threadgroup_variables(Range body, Kernel& kernel) const;
  std::size_t read_threadgroup_variable(Range start, Kernel& kernel) const;
  void add_kernel(Kernel kernel);

  // parse_constants.cpp
  void read_defined_queries();
  void read_constant(Range declaration);
  void read_function_constant(Range declaration, std::size_t attribute);
  bool depends_on_constants(Range range) const;
  std::string type_of_constant(Range range) const;
  void read_enumerators(Range declaration);
  void read_numbers(Range declaration);
  void evaluate_number(const std::string& name, Range value);
  void add_number(const std::string& name, std::int64_t value);

  const Token& at(std::size_t i) const { return source_.at(i); }

  Source source_;
  std::string scope_;                // of the declaration that is read: a::b::
  std::set<std::string> optional_;   // function constants that may be undefined
  std::set<std::string> ambiguous_;  // names that stand for several numbers, in several namespaces
};

}  // namespace npu::msl
