#include "msl/tokens.h"

#include <cctype>
#include <cstdlib>

namespace npu::msl {

namespace {

bool starts_word(char c) { return std::isalpha(static_cast<unsigned char>(c)) || c == '_'; }
bool continues_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }

class Reader {
 public:
  Reader(std::string_view source, Tokens& out) : source_(source), out_(out) {}

  void read() {
    for (;;) {
      Token token;
      token.space = read_space();
      token.file = file_;
      token.line = line_;
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
      } else if (c == '#' && line_start_) {
        read_directive();
      } else {
        break;
      }
    }
    line_start_ = false;
    return std::string(source_.substr(start, at_ - start));
  }

  // A line marker, `# 12 "file"`; anything else, a pragma for instance, passes through.
  void read_directive() {
    size_t stop = source_.find('\n', at_);
    if (stop == std::string_view::npos) stop = source_.size();
    std::string text(source_.substr(at_ + 1, stop - at_ - 1));
    char* rest = nullptr;
    long line = std::strtol(text.c_str(), &rest, 10);
    size_t open = text.find('"'), close = text.rfind('"');
    if (rest != text.c_str() && open != std::string::npos && close > open) {
      line_ = static_cast<int>(line) - 1;  // the newline that ends the marker counts up
      enter(text.substr(open + 1, close - open - 1));
    }
    at_ = stop;
  }

  void enter(const std::string& name) {
    for (size_t i = 0; i < out_.files.size(); ++i)
      if (out_.files[i] == name) {
        file_ = static_cast<int>(i);
        return;
      }
    file_ = static_cast<int>(out_.files.size());
    out_.files.push_back(name);
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
    for (++at_; at_ < source_.size() && source_[at_] != quote; ++at_)
      if (source_[at_] == '\\') ++at_;
    ++at_;
  }

  std::string_view source_;
  Tokens& out_;
  size_t at_ = 0;
  int file_ = 0;
  int line_ = 1;
  bool line_start_ = true;
};

}  // namespace

Tokens::Tokens(std::string_view source, std::string name) : files{std::move(name)} {
  Reader(source, *this).read();
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
