#include "msl/parser.h"

#include <array>
#include <string_view>

namespace npu::msl {

namespace {

struct Forbidden {
  std::string_view word, reason;
};
constexpr std::array<Forbidden, 16> kForbidden{{
    {"double", "MSL has no double"},
    {"new", "MSL has no new"},
    {"delete", "MSL has no delete"},
    {"throw", "MSL has no exceptions"},
    {"try", "MSL has no exceptions"},
    {"catch", "MSL has no exceptions"},
    {"virtual", "MSL has no virtual functions"},
    {"dynamic_cast", "MSL has no run-time types"},
    {"typeid", "MSL has no run-time types"},
    {"goto", "MSL has no goto"},
    {"std", "MSL has no C++ standard library"},
    {"thread_local", "MSL has no thread_local"},
    {"asm", "MSL has no asm"},
    {"printf", "MSL has no printf"},
    {"requires", "MSL is C++14"},
    {"concept", "MSL is C++14"},
}};

}  // namespace

Source parse(Tokens tokens) { return Parser(std::move(tokens)).run(); }

Source Parser::run() {
  check_words();
  read_defined_queries();
  read_declarations(0, source_.tokens.list.size() - 1);
  return std::move(source_);
}

void Parser::check_words() const {
  for (std::size_t i = 0; at(i).kind != Token::end; ++i) {
    if (at(i).kind != Token::word) continue;
    for (const Forbidden& forbidden : kForbidden)
      if (at(i).is(forbidden.word)) source_.fail(i, std::string(forbidden.reason));
  }
}

void Parser::read_declarations(std::size_t begin, std::size_t end) {
  while (begin < end) begin = read_declaration(begin, end);
}

// One declaration at namespace scope; returns where the next one starts.
std::size_t Parser::read_declaration(std::size_t begin, std::size_t end) {
  if (at(begin).is(";") || at(begin).is("}")) return begin + 1;
  if (at(begin).is("namespace") || (at(begin).is("inline") && at(begin + 1).is("namespace")))
    return read_namespace(begin);
  if (at(begin).is("template") && !at(begin + 1).is("<")) return read_instantiation(begin);

  std::size_t start = begin;
  while (at(start).is("template")) start = past_template_list(start + 1);
  const std::size_t stop = past_declaration(start);
  if (stop > end) source_.fail(begin, "a declaration that does not end");
  bool is_constant = false;
  for (std::size_t i = start; i < stop; ++i) {
    const bool attribute = at(i).is("[[") && at(i + 1).is("kernel");
    if (attribute || at(i).is("kernel")) return read_kernel(start, i, start != begin);
    if (at(i).is("(") || at(i).is("{") || at(i).is("=")) break;
    is_constant = is_constant || at(i).is("constant");
    if (at(i).is("[[")) i = source_.matching(i);
  }
  if (is_constant && start == begin) read_constant({begin, stop});
  if (at(start).is("enum")) read_enumerators({start, stop});
  return stop;
}

std::size_t Parser::read_namespace(std::size_t begin) {
  std::size_t i = begin;
  while (!at(i).is("{") && !at(i).is(";") && !at(i).is("=")) {
    if (at(i).kind == Token::end) source_.fail(begin, "a namespace without a body");
    ++i;
  }
  if (!at(i).is("{")) return past_declaration(begin);
  const std::size_t close = source_.matching(i), outer = scope_.size();
  for (std::size_t k = begin; k < i; ++k) {  // `inline` and attributes are no part of the name
    if (at(k).is("[["))
      k = source_.matching(k);
    else if (at(k).kind == Token::word && !at(k).is("namespace") && !at(k).is("inline"))
      scope_ += at(k).spelling + "::";
  }
  read_declarations(i + 1, close);
  scope_.resize(outer);
  return close + 1;
}

// Past the `;` or the body that ends a declaration.
std::size_t Parser::past_declaration(std::size_t begin) const {
  bool type = false, assigned = false;
  for (std::size_t i = begin; at(i).kind != Token::end; ++i) {
    const Token& token = at(i);
    if (token.is(";")) return i + 1;
    if (token.is("=")) assigned = true;
    if (token.is("struct") || token.is("class") || token.is("union") || token.is("enum")) type = true;
    if (token.is("(")) type = false;
    if (token.is("(") || token.is("[") || token.is("[[")) i = source_.matching(i);
    if (token.is("{")) {
      i = source_.matching(i);
      if (!type && !assigned && !at(i + 1).is(";") && !at(i + 1).is(",")) return i + 1;
    }
  }
  source_.fail(begin, "a declaration that does not end");
}

// `open` is the `<` after the word template.
std::size_t Parser::past_template_list(std::size_t open) const {
  int depth = 0;
  for (std::size_t i = open; at(i).kind != Token::end; ++i) {
    if (at(i).is("(") || at(i).is("{") || at(i).is("[")) i = source_.matching(i);
    if (at(i).is("<")) ++depth;
    if (at(i).is(">") && --depth == 0) return i + 1;
  }
  source_.fail(open, "a template parameter list that does not end");
}

}  // namespace npu::msl
