#include "msl/tokens.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>

#include "msl/error.h"

namespace npu::msl {

namespace {

bool starts_word(char c) { return std::isalpha(static_cast<unsigned char>(c)) || c == '_'; }
bool continues_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }

class Reader {
 public:
  Reader(std::string_view source, Tokens::Lines lines, Tokens& out)
      : source_(source), directives_(lines == Tokens::Lines::kDirectives), out_(out) {}

  void read() {
    for (;;) {
      Token token;
      token.space = read_space();
      token.file = file_;
      token.line = line_;
      token.starts_line = line_start_;
      line_start_ = false;
      if (at_ < source_.size()) read_token(token);
      out_.list.push_back(token);
      if (token.kind == Token::end) return;
    }
  }

 private:
  char peek(size_t ahead = 0) const { return at_ + ahead < source_.size() ? source_[at_ + ahead] : '\0'; }

  std::string read_space() {
    size_t start = at_;
    while (at_ < source_.size()) {
      char c = source_[at_];
      if (c == '\n') {
        ++line_, ++at_, line_start_ = true;
      } else if (std::isspace(static_cast<unsigned char>(c))) {
        ++at_;
      } else if (directives_ ? !read_comment() : c != '#' || !line_start_) {
        break;
      } else if (!directives_) {
        read_marker();
      }
    }
    return std::string(source_.substr(start, at_ - start));
  }

  // A comment, or a newline that a backslash takes back.
  bool read_comment() {
    if (peek() == '\\' && peek(1) == '\n') {
      ++line_, at_ += 2;
    } else if (peek() == '/' && peek(1) == '/') {
      while (at_ < source_.size() && peek() != '\n') ++at_;
    } else if (peek() == '/' && peek(1) == '*') {
      const size_t close = source_.find("*/", at_ + 2);
      if (close == std::string_view::npos)
        throw SourceError(out_.files[static_cast<size_t>(file_)] + ":" + std::to_string(line_) +
                          ": error: a comment that does not end");
      for (; at_ < close + 2; ++at_) line_ += peek() == '\n';
    } else {
      return false;
    }
    return true;
  }

  // A line marker, `# 12 "file"`; anything else, a pragma for instance, passes through.
  void read_marker() {
    size_t stop = source_.find('\n', at_);
    if (stop == std::string_view::npos) stop = source_.size();
    std::string text(source_.substr(at_ + 1, stop - at_ - 1));
    char* rest = nullptr;
    long line = std::strtol(text.c_str(), &rest, 10);
    size_t open = text.find('"'), close = text.rfind('"');
    if (rest != text.c_str() && open != std::string::npos && close > open) {
      line_ = static_cast<int>(line) - 1;  // the newline that ends the marker counts up
      file_ = out_.file(text.substr(open + 1, close - open - 1));
    }
    at_ = stop;
  }

  void read_token(Token& token) {
    size_t start = at_;
    char c = peek();
    if (starts_word(c)) {
      token.kind = Token::word;
      while (continues_word(peek())) ++at_;
    } else if (std::isdigit(static_cast<unsigned char>(c)) ||
               (c == '.' && std::isdigit(static_cast<unsigned char>(peek(1))))) {
      token.kind = Token::number;
      read_number();
    } else if (c == '"' || c == '\'') {
      token.kind = Token::text;
      read_text(c);
    } else {
      token.kind = Token::mark;
      bool pair =
          (c == '[' && peek(1) == '[') || (c == ':' && peek(1) == ':') || (c == '-' && peek(1) == '>');
      at_ += pair ? 2 : 1;
    }
    token.spelling = std::string(source_.substr(start, at_ - start));
  }

  void read_number() {
    while (continues_word(peek()) || peek() == '.' ||
           ((peek() == '+' || peek() == '-') && std::string_view("eEpP").find(source_[at_ - 1]) < 4 &&
            is_exponent()))
      ++at_;
  }

  // In a hexadecimal number E is a digit, and only P introduces an exponent.
  bool is_exponent() const {
    size_t start = at_;
    while (start > 0 && (continues_word(source_[start - 1]) || source_[start - 1] == '.')) --start;
    bool hexadecimal = source_.substr(start, 2) == "0x" || source_.substr(start, 2) == "0X";
    char letter = source_[at_ - 1];
    return hexadecimal == (letter == 'p' || letter == 'P');
  }

  void read_text(char quote) {
    for (++at_; at_ < source_.size() && source_[at_] != quote && source_[at_] != '\n'; ++at_)
      if (source_[at_] == '\\') ++at_;
    if (peek() == quote) ++at_;
    at_ = std::min(at_, source_.size());
  }

  std::string_view source_;
  bool directives_;
  Tokens& out_;
  size_t at_ = 0;
  int file_ = 0;
  int line_ = 1;
  bool line_start_ = true;
};

}  // namespace

Tokens::Tokens(std::string_view source, std::string name, Lines lines) : files{std::move(name)} {
  Reader(source, lines, *this).read();
}

std::string Tokens::where(const Token& token) const {
  return files[static_cast<std::size_t>(token.file)] + ":" + std::to_string(token.line);
}

int Tokens::file(const std::string& name) {
  const auto entry = std::find(files.begin(), files.end(), name);
  const auto number = static_cast<int>(entry - files.begin());
  if (entry == files.end()) files.push_back(name);
  return number;
}

std::string Tokens::text(Range range) const {
  std::string result;
  for (std::size_t i = range.begin; i < range.end; ++i) {
    if (!result.empty() && !list[i].space.empty()) result += ' ';
    result += list[i].spelling;
  }
  return result;
}

std::string Tokens::joined() const {
  std::string result;
  for (const Token& token : list) result += token.space, result += token.spelling;
  return result;
}

}  // namespace npu::msl
