// MSL as tokens that know where they came from. Joined again they are the text they were read from.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace npu::msl {

struct Token {
  enum Kind { word, number, text, mark, end };
  Kind kind = end;
  std::string space;  // what stands before it: blanks, newlines, comments, line markers
  std::string spelling;
  int file = 0;
  int line = 0;
  bool starts_line = false;

  bool is(std::string_view s) const { return spelling == s; }
};

// Tokens [begin, end) of a source.
struct Range {
  std::size_t begin = 0, end = 0;
};

class Tokens {
 public:
  // What a line that begins with # is.
  enum class Lines {
    kMarkers,     // `# 12 "file"`, as preprocessors write it: the lines that follow are of that file; or a
                  // pragma
    kDirectives,  // tokens, for a preprocessor; comments count as space
  };

  Tokens() = default;
  Tokens(std::string_view source, std::string name, Lines lines = Lines::kMarkers);

  std::vector<Token> list;  // ends with a token of kind `end`
  std::vector<std::string> files;

  std::string where(const Token& token) const;  // file:line
  int file(const std::string& name);            // its number
  std::string text(Range range) const;          // with blanks where there was space
  std::string joined() const;
};

}  // namespace npu::msl
