// Preprocessed MSL as tokens that know where they came from. Joined again they are the text they were read
// from.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace softmetal {

struct Token {
  enum Kind { word, number, text, mark, end };
  Kind kind = end;
  std::string space;  // what stands before it: blanks, newlines, line markers
  std::string spelling;
  int file = 0;
  int line = 0;

  bool is(std::string_view s) const { return spelling == s; }
};

class Tokens {
 public:
  explicit Tokens(std::string_view source, std::string name);

  std::vector<Token> list;  // ends with a token of kind `end`
  std::vector<std::string> files;

  std::string where(const Token& token) const { return files[token.file] + ":" + std::to_string(token.line); }
  std::string joined() const;
};

}  // namespace softmetal
