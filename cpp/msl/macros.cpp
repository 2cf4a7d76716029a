#include "msl/macros.h"

#include <algorithm>
#include <utility>

#include "msl/error.h"

namespace npu::msl {

namespace {

constexpr const char* kVariadic = "__VA_ARGS__";

bool same(const Token& a, const Token& b) {
  return a.spelling == b.spelling && a.space.empty() == b.space.empty();
}

// `##` is two marks side by side.
bool is_paste(const std::vector<Token>& body, std::size_t i) {
  return i + 1 < body.size() && body[i].is("#") && body[i + 1].is("#") && body[i + 1].space.empty();
}

}  // namespace

bool Macro::operator==(const Macro& other) const {
  return name == other.name && has_parameters == other.has_parameters && parameters == other.parameters &&
         std::equal(body.begin(), body.end(), other.body.begin(), other.body.end(), same);
}

void Macros::fail(const Token& at, const std::string& what) const {
  throw SourceError(files_.where(at) + ": error: " + what);
}

void Macros::define(const std::vector<Token>& line) {
  if (line.size() < 2 || line[1].kind != Token::word) fail(line[0], "#define needs a name");
  Macro macro;
  macro.name = line[1].spelling;
  if (macro.name == "defined" || macro.name == kVariadic) fail(line[1], macro.name + " cannot be a macro");
  std::size_t i = 2;
  if (i < line.size() && line[i].is("(") && line[i].space.empty()) {
    macro.has_parameters = true;
    for (++i; i < line.size() && !line[i].is(")"); ++i) {
      if (macro.variadic) fail(line[i], "`...` is the last parameter of a macro");
      const bool dots = i + 2 < line.size() && line[i].is(".") && line[i + 1].is(".") && line[i + 2].is(".");
      if (!dots && line[i].kind != Token::word)
        fail(line[i], "a parameter of macro " + macro.name + " needs a name");
      macro.variadic = dots;
      macro.parameters.push_back(dots ? kVariadic : line[i].spelling);
      if (dots) i += 2;
      if (i + 1 < line.size() && line[i + 1].is(",")) ++i;
    }
    if (i == line.size()) fail(line[1], "the parameters of macro " + macro.name + " do not end");
    ++i;
  }
  macro.body.assign(line.begin() + static_cast<std::ptrdiff_t>(i), line.end());
  if (!macro.body.empty()) macro.body.front().space.clear();
  if (is_paste(macro.body, 0) || (macro.body.size() > 1 && is_paste(macro.body, macro.body.size() - 2)))
    fail(line[1], "## stands between two tokens");
  const auto [entry, added] = macros_.emplace(macro.name, macro);
  if (!added && !(entry->second == macro))
    fail(line[1], "macro " + macro.name + " is defined otherwise already");
}

std::vector<Token> Macros::expand(const std::vector<Token>& tokens) const {
  static const Names none = std::make_shared<const std::set<std::string>>();
  Text text;
  text.reserve(tokens.size());
  for (const Token& token : tokens) text.push_back({token, none});
  std::vector<Token> result;
  text = expand(std::move(text));
  result.reserve(text.size());
  for (Traced& traced : text) result.push_back(std::move(traced.token));
  return result;
}

Macros::Text Macros::expand(Text rest) const {
  std::reverse(rest.begin(), rest.end());  // the next token is the last
  Text result;
  result.reserve(rest.size());
  while (!rest.empty()) {
    Traced next = std::move(rest.back());
    rest.pop_back();
    if (!replace(rest, next)) result.push_back(std::move(next));
  }
  return result;
}

// Puts the expansion before the rest, where `name` is that of a macro which is called.
bool Macros::replace(Text& rest, const Traced& name) const {
  if (name.token.kind != Token::word || name.from->count(name.token.spelling)) return false;
  const auto entry = macros_.find(name.token.spelling);
  if (entry == macros_.end()) return false;
  const Macro& macro = entry->second;
  std::set<std::string> from = *name.from;
  std::vector<Text> arguments;
  if (macro.has_parameters) {
    if (rest.empty() || !rest.back().token.is("(")) return false;
    Names closing;
    arguments = read_arguments(macro, rest, name.token, closing);
    std::erase_if(from, [&](const std::string& other) { return !closing->count(other); });
  }
  from.insert(macro.name);
  const auto traced = std::make_shared<const std::set<std::string>>(std::move(from));
  Text expansion = substitute(macro, arguments, name.token);
  for (Traced& token : expansion) {
    if (token.from == nullptr || token.from->empty()) {
      token.from = traced;
    } else {
      std::set<std::string> both = *token.from;
      both.insert(traced->begin(), traced->end());
      token.from = std::make_shared<const std::set<std::string>>(std::move(both));
    }
    token.token.file = name.token.file;
    token.token.line = name.token.line;
    token.token.starts_line = false;
  }
  // Tokens that the expansion brings together do not become one.
  if (!rest.empty() && rest.back().token.space.empty()) rest.back().token.space = " ";
  if (!expansion.empty()) {
    expansion.front().token.space = " ";
    expansion.front().token.starts_line = name.token.starts_line;
  }
  for (; !expansion.empty(); expansion.pop_back()) rest.push_back(std::move(expansion.back()));
  return true;
}

std::vector<Macros::Text> Macros::read_arguments(const Macro& macro, Text& rest, const Token& name,
                                                 Names& closing) const {
  std::vector<Text> arguments(1);
  rest.pop_back();
  for (int depth = 0;;) {
    if (rest.empty()) fail(name, "the arguments of macro " + macro.name + " do not end");
    Traced next = std::move(rest.back());
    rest.pop_back();
    if (next.token.is(")") && depth == 0) {
      closing = next.from;
      break;
    }
    // `[[` is one token; its two ends are not.
    depth += next.token.is("(") ? 1 : next.token.is(")") ? -1 : 0;
    const bool last = macro.variadic && arguments.size() == macro.parameters.size();
    if (next.token.is(",") && depth == 0 && !last)
      arguments.emplace_back();
    else
      arguments.back().push_back(std::move(next));
  }
  const std::size_t wanted = macro.parameters.size();
  if (wanted == 0 && arguments.size() == 1 && arguments[0].empty()) arguments.clear();
  if (macro.variadic && arguments.size() + 1 == wanted) arguments.emplace_back();
  if (arguments.size() != wanted)
    fail(name, "macro " + macro.name + " takes " + std::to_string(wanted) + " arguments, got " +
                   std::to_string(arguments.size()));
  return arguments;
}

Macros::Text Macros::substitute(const Macro& macro, const std::vector<Text>& arguments,
                                const Token& name) const {
  const std::vector<Token>& body = macro.body;
  const auto parameter = [&](const Token& token) {
    const auto entry = std::find(macro.parameters.begin(), macro.parameters.end(), token.spelling);
    const bool is = macro.has_parameters && token.kind == Token::word && entry != macro.parameters.end();
    return is ? static_cast<int>(entry - macro.parameters.begin()) : -1;
  };
  Text result;
  bool paste = false, left_is_empty = false;  // the left operand of a ## that waits
  const auto add = [&](Text text, const std::string& space) {
    if (!text.empty()) text.front().token.space = space;
    std::size_t first = 0;
    if (paste && !left_is_empty && !text.empty()) {
      result.back().token = pasted(result.back().token, text[0].token);
      first = 1;
    }
    left_is_empty = text.empty() && (!paste || left_is_empty);
    paste = false;
    result.insert(result.end(), text.begin() + static_cast<std::ptrdiff_t>(first), text.end());
  };
  for (std::size_t i = 0; i < body.size(); ++i) {
    if (is_paste(body, i)) {
      paste = true;
      ++i;
      continue;
    }
    const bool hash = macro.has_parameters && body[i].is("#");
    if (hash) {
      const int k = i + 1 < body.size() ? parameter(body[i + 1]) : -1;
      if (k < 0) fail(name, "# in macro " + macro.name + " stands before none of its parameters");
      add({{stringised(arguments[static_cast<std::size_t>(k)], body[i]), nullptr}}, body[i].space);
      ++i;
    } else if (const int k = parameter(body[i]); k >= 0) {
      const bool whole = paste || is_paste(body, i + 1);  // operands of ## are not expanded first
      const Text& argument = arguments[static_cast<std::size_t>(k)];
      add(whole ? argument : expand(argument), body[i].space);
    } else {
      add({{body[i], nullptr}}, body[i].space);
    }
  }
  return result;
}

Token Macros::pasted(const Token& left, const Token& right) const {
  const Tokens both(left.spelling + right.spelling, "", Tokens::Lines::kDirectives);
  if (both.list.size() != 2 || !both.list[0].space.empty())
    fail(left, "`" + left.spelling + "` ## `" + right.spelling + "` is not one token");
  Token token = left;
  token.kind = both.list[0].kind;
  token.spelling = both.list[0].spelling;
  return token;
}

Token Macros::stringised(const Text& argument, const Token& mark) const {
  Token token = mark;
  token.kind = Token::text;
  token.spelling = "\"";
  for (std::size_t i = 0; i < argument.size(); ++i) {
    const Token& part = argument[i].token;
    if (i > 0 && !part.space.empty()) token.spelling += ' ';
    for (const char c : part.spelling) {
      if (part.kind == Token::text && (c == '"' || c == '\\')) token.spelling += '\\';
      token.spelling += c;
    }
  }
  token.spelling += '"';
  return token;
}

}  // namespace npu::msl
