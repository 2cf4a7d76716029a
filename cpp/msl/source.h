// What a source in the Metal Shading Language declares, as plain data: back ends read it and rewrite the
// tokens.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "msl/tokens.h"

namespace npu::msl {

struct Parameter {
  enum class Kind { kBuffer, kThreadgroup, kInput };
  Kind kind = Kind::kInput;
  std::string name;
  std::string input;      // of kInput: thread_position_in_grid, ...
  Range number;           // of a buffer or of threadgroup memory: a constant expression
  std::string condition;  // a constant that says whether the buffer is there; may be empty
  Range declaration;      // all of it, attributes included
  std::vector<Range> attributes;
};

// `threadgroup T first[4][5], second;` in the body of a kernel.
struct ThreadgroupVariables {
  struct Variable {
    std::string name;
    Range extents;  // [4][5]
  };
  Range declaration;  // from alignas or an attribute to past the `;`
  std::size_t keyword = 0;
  std::vector<Range> alignments;  // alignas(...) behind the keyword
  Range type;                     // alignments included
  std::vector<Variable> variables;
};

struct Kernel {
  std::string scope;  // of the namespaces around it: a::b::
  std::string name;
  std::string host_name;    // string literals, as they are written; may be empty
  std::string max_threads;  // a constant expression; may be empty
  bool is_template = false;
  std::vector<Parameter> parameters;
  std::vector<ThreadgroupVariables> threadgroup_variables;
  std::vector<Range> attributes;    // of the kernel, the word `kernel` included
  Range head;                       // from behind any template list to the parameter list
  std::size_t open = 0, close = 0;  // parentheses of the parameter list
  Range body;                       // from `{` to past `}`; empty for a declaration
};

// `template [[host_name("f_float")]] [[kernel]] decltype(f<float>) f<float>;`, or the whole signature.
struct Instantiation {
  Range declaration;
  std::string scope;        // of the namespaces around it
  std::size_t kernel = 0;   // of Source::kernels
  std::string function;     // f<float>
  std::string host_name;    // string literals, as they are written
  std::string max_threads;  // a constant expression; the kernel's where it has none of its own
};

// `constant bool flag [[function_constant(0)]];`, or one with a value that depends on such.
struct Constant {
  Range declaration;
  std::string type, name;
  bool computed = false;
  bool required = true;  // no is_function_constant_defined asks for it
  Range number;          // of a function constant: a constant expression
  Range value;           // of a computed one
};

// is_function_constant_defined(name)
struct DefinedQuery {
  Range call;
  std::string name;
};

struct Source {
  Tokens tokens;
  std::vector<Kernel> kernels;
  std::vector<Instantiation> instantiations;
  std::vector<Constant> constants;
  std::vector<DefinedQuery> defined_queries;
  // Of enumerators and integer constants at namespace scope, as far as they are known.
  std::map<std::string, std::int64_t> numbers;

  const Token& at(std::size_t i) const { return tokens.list[i]; }
  std::int64_t number(Range range) const;  // of a constant expression; throws where a name has no value
  std::string text(Range range) const { return tokens.text(range); }
  // The token that closes the bracket at `open`.
  std::size_t matching(std::size_t open) const;
  // The first token that is spelled so, outside of brackets; `end` if there is none.
  std::size_t find(std::size_t begin, std::size_t end, const char* spelling) const;
  [[noreturn]] void fail(std::size_t at, const std::string& what) const;
};

// Throws a SourceError for what is not MSL: a word that it forbids, a kernel without attributes, ...
Source parse(Tokens tokens);

}  // namespace npu::msl
