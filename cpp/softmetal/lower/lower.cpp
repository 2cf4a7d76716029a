#include "lower.h"

#include "lowering.h"

namespace softmetal {

std::string lower(const std::string& preprocessed, const std::string& name) {
  return Lowering(Tokens(preprocessed, name)).run();
}

std::string Lowering::run() {
  check_words();
  lower_literals();
  lower_defined_queries();
  lower_declarations(0, list_.size() - 1);
  return "#include <metal_stdlib>\n" + tokens_.joined() + "\n";
}

void Lowering::lower_declarations(size_t begin, size_t end) {
  while (begin < end) begin = lower_declaration(begin, end);
}

// One declaration at namespace scope; returns where the next one starts.
size_t Lowering::lower_declaration(size_t begin, size_t end) {
  if (list_[begin].is(";") || list_[begin].is("}")) return begin + 1;
  if (list_[begin].is("namespace") || (list_[begin].is("inline") && list_[begin + 1].is("namespace")))
    return lower_namespace(begin);
  if (list_[begin].is("template") && !list_[begin + 1].is("<")) return lower_instantiation(begin);

  size_t start = begin;
  while (list_[start].is("template")) start = after_template_list(start + 1);
  size_t stop = skip_declaration(start);
  if (stop > end) fail(begin, "a declaration that does not end");
  for (size_t i = start; i < stop; ++i) {
    bool attribute = list_[i].is("[[") && list_[i + 1].is("kernel");
    if (attribute || list_[i].is("kernel")) return lower_kernel(start, i, start != begin);
    if (list_[i].is("(") || list_[i].is("{") || list_[i].is("=")) break;
    if (list_[i].is("[[")) i = matching(i);
  }
  for (size_t i = start; i < stop && !list_[i].is("(") && !list_[i].is("{") && !list_[i].is("="); ++i)
    if (list_[i].is("constant") && start == begin) {
      lower_constant(begin, stop);
      break;
    }
  return stop;
}

size_t Lowering::lower_namespace(size_t begin) {
  size_t at = begin;
  while (!list_[at].is("{") && !list_[at].is(";") && !list_[at].is("=")) ++at;
  if (!list_[at].is("{")) return skip_declaration(begin);
  size_t close = matching(at);
  lower_declarations(at + 1, close);
  return close + 1;
}

// Past the `;` or the body that ends a declaration.
size_t Lowering::skip_declaration(size_t begin) const {
  bool type = false, assigned = false;
  for (size_t i = begin; list_[i].kind != Token::end; ++i) {
    const Token& token = list_[i];
    if (token.is(";")) return i + 1;
    if (token.is("=")) assigned = true;
    if (token.is("struct") || token.is("class") || token.is("union") || token.is("enum")) type = true;
    if (token.is("(")) type = false;
    if (token.is("(") || token.is("[") || token.is("[[")) i = matching(i);
    if (token.is("{")) {
      i = matching(i);
      if (!type && !assigned && !list_[i + 1].is(";") && !list_[i + 1].is(",")) return i + 1;
    }
  }
  fail(begin, "a declaration that does not end");
}

size_t Lowering::matching(size_t open) const {
  int depth = 0;
  for (size_t i = open; list_[i].kind != Token::end; ++i) {
    const std::string& s = list_[i].spelling;
    if (list_[i].kind != Token::mark) continue;
    if (s == "(" || s == "{" || s == "[") ++depth;
    if (s == "[[") depth += 2;
    if (s == ")" || s == "}" || s == "]") --depth;
    if (depth == 0) return i;
  }
  fail(open, "`" + list_[open].spelling + "` is never closed");
}

size_t Lowering::find(size_t begin, size_t end, const char* spelling) const {
  for (size_t i = begin; i < end; ++i) {
    const Token& token = list_[i];
    if (token.is(spelling)) return i;
    if (token.is("(") || token.is("{") || token.is("[") || token.is("[[")) i = matching(i);
  }
  return end;
}

// `open` is the `<` after the word template.
size_t Lowering::after_template_list(size_t open) const {
  int depth = 0;
  for (size_t i = open; list_[i].kind != Token::end; ++i) {
    if (list_[i].is("(") || list_[i].is("{") || list_[i].is("[")) i = matching(i);
    if (list_[i].is("<")) ++depth;
    if (list_[i].is(">") && --depth == 0) return i + 1;
  }
  fail(open, "a template parameter list that does not end");
}

std::string Lowering::text(size_t begin, size_t end) const {
  std::string result;
  for (size_t i = begin; i < end; ++i) {
    if (!result.empty() && !list_[i].space.empty()) result += ' ';
    result += list_[i].spelling;
  }
  return result;
}

void Lowering::erase(size_t begin, size_t end) {
  for (size_t i = begin; i < end; ++i) list_[i].spelling.clear();
}

void Lowering::fail(size_t at, const std::string& what) const {
  throw LoweringError(tokens_.where(list_[at]) + ": error: " + what);
}

}  // namespace softmetal
