// Macros: their definitions, and what becomes of text that names them.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "msl/tokens.h"

namespace npu::msl {

struct Macro {
  std::string name;
  bool has_parameters = false, variadic = false;
  std::vector<std::string> parameters;  // the last one is __VA_ARGS__ where it is variadic
  std::vector<Token> body;              // #parameter and a ## b included

  bool operator==(const Macro& other) const;  // whether a second definition says the same
};

class Macros {
 public:
  // `files` are those that the tokens count, for messages.
  explicit Macros(const Tokens& files) : files_(files) {}

  // What follows #define; throws a SourceError.
  void define(const std::vector<Token>& line);
  void undefine(const std::string& name) { macros_.erase(name); }
  bool defines(const std::string& name) const { return macros_.count(name) != 0; }

  // An expansion has the line of the name that it replaces.
  std::vector<Token> expand(const std::vector<Token>& tokens) const;

 private:
  using Names = std::shared_ptr<const std::set<std::string>>;
  // A token, and the macros that it came from: it is not expanded by them again.
  struct Traced {
    Token token;
    Names from;
  };
  using Text = std::vector<Traced>;

  Text expand(Text rest) const;
  bool replace(Text& rest, const Traced& name) const;
  std::vector<Text> read_arguments(const Macro& macro, Text& rest, const Token& name, Names& closing) const;
  Text substitute(const Macro& macro, const std::vector<Text>& arguments, const Token& name) const;
  Token pasted(const Token& left, const Token& right) const;
  Token stringised(const Text& argument, const Token& mark) const;
  [[noreturn]] void fail(const Token& at, const std::string& what) const;

  const Tokens& files_;
  std::map<std::string, Macro> macros_;
};

}  // namespace npu::msl
