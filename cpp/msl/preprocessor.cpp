#include "msl/preprocessor.h"

#include <set>
#include <utility>
#include <vector>

#include "msl/error.h"
#include "msl/macros.h"
#include "msl/numbers.h"

namespace npu::msl {

namespace {

constexpr int kDeepest = 64;  // files that include each other

class Preprocessor {
 public:
  explicit Preprocessor(const PreprocessOptions& options) : options_(options) {
    for (const auto& [name, text] : options.macros) {
      Tokens tokens("#" + name + " " + text, "the options", Tokens::Lines::kDirectives);
      adopt(tokens);
      tokens.list.pop_back();
      macros_.define(tokens.list);
    }
  }

  Tokens run(std::string_view text, const std::string& name) {
    read(text, name, 0);
    Token end;
    end.file = out_.file(name);
    end.space = "\n";
    out_.list.push_back(end);
    return std::move(out_);
  }

 private:
  // One #if with its branches.
  struct Branches {
    Token opened;
    bool outer = true;  // what is around it is read
    bool reading = false;
    bool chosen = false;  // a branch was
    bool last = false;    // #else was seen
  };
  using Line = std::vector<Token>;

  void adopt(Tokens& tokens) {
    const int file = out_.file(tokens.files[0]);
    for (Token& token : tokens.list) token.file = file;
  }

  void read(std::string_view text, const std::string& name, int depth) {
    Tokens tokens(text, name, Tokens::Lines::kDirectives);
    adopt(tokens);
    const std::size_t around = branches_.size();
    Line pending;  // macros may be called over several lines
    for (std::size_t i = 0; tokens.list[i].kind != Token::end;) {
      std::size_t stop = i + 1;
      while (tokens.list[stop].kind != Token::end && !tokens.list[stop].starts_line) ++stop;
      const auto first = tokens.list.begin() + static_cast<std::ptrdiff_t>(i);
      const auto last = tokens.list.begin() + static_cast<std::ptrdiff_t>(stop);
      if (tokens.list[i].is("#")) {
        put(pending);
        pending.clear();
        directive(Line(first, last), depth);
      } else if (reading()) {
        pending.insert(pending.end(), first, last);
      }
      i = stop;
    }
    put(pending);
    if (branches_.size() > around) fail(branches_.back().opened, "an #if without its #endif");
  }

  bool reading() const { return branches_.empty() || branches_.back().reading; }

  void directive(const Line& line, int depth) {
    if (line.size() == 1) return;
    const std::string& word = line[1].spelling;
    if (word == "if" || word == "ifdef" || word == "ifndef") return open_branches(line);
    if (word == "elif" || word == "else" || word == "endif") return next_branch(line);
    if (!reading()) return;
    const Line rest(line.begin() + 1, line.end());
    if (word == "define") {
      macros_.define(rest);
    } else if (word == "undef") {
      macros_.undefine(name_of(line));
    } else if (word == "include") {
      include(line, depth);
    } else if (word == "pragma") {
      const std::string text = text_of(line, 2);
      if (text == "once")
        once_.insert(out_.files[static_cast<std::size_t>(line[0].file)]);
      else
        put_pragma(text, line[0]);
    } else if (word == "error") {
      fail(line[0], text_of(line, 2));
    } else {
      fail(line[0], "#" + word + " is not known here");
    }
  }

  void open_branches(const Line& line) {
    Branches branches;
    branches.opened = line[0];
    branches.outer = reading();
    if (branches.outer) {
      const std::string& word = line[1].spelling;
      branches.reading = word == "if" ? holds(line) : macros_.defines(name_of(line)) == (word == "ifdef");
    }
    branches.chosen = branches.reading;
    branches_.push_back(branches);
  }

  void next_branch(const Line& line) {
    const std::string& word = line[1].spelling;
    if (branches_.empty() || branches_.back().opened.file != line[0].file)
      fail(line[0], "#" + word + " without an #if");
    Branches& branches = branches_.back();
    if (word == "endif") return branches_.pop_back();
    if (branches.last) fail(line[0], "#" + word + " after #else");
    branches.last = word == "else";
    branches.reading = branches.outer && !branches.chosen && (branches.last || holds(line));
    branches.chosen = branches.chosen || branches.reading;
  }

  const std::string& name_of(const Line& line) const {
    if (line.size() < 3 || line[2].kind != Token::word)
      fail(line[0], "#" + line[1].spelling + " needs a name");
    if (line.size() > 3) fail(line[3], "unexpected `" + line[3].spelling + "` after #" + line[1].spelling);
    return line[2].spelling;
  }

  // Whether the condition of #if or #elif holds; names that are not macros count as 0.
  bool holds(const Line& line) {
    Line condition;
    for (std::size_t i = 2; i < line.size(); ++i) {
      if (!line[i].is("defined")) {
        condition.push_back(line[i]);
        continue;
      }
      const bool bracketed = i + 3 < line.size() && line[i + 1].is("(") && line[i + 3].is(")");
      const std::size_t name = bracketed ? i + 2 : i + 1;
      if (name >= line.size() || line[name].kind != Token::word) fail(line[i], "defined needs a name");
      Token number = line[i];
      number.kind = Token::number;
      number.spelling = macros_.defines(line[name].spelling) ? "1" : "0";
      condition.push_back(number);
      i = bracketed ? name + 1 : name;
    }
    Tokens tokens;
    tokens.files = out_.files;
    tokens.list = macros_.expand(condition);
    tokens.list.push_back(line[0]);  // where a missing operand is reported
    tokens.list.back().kind = Token::end;
    const Lookup zero = [](const std::string&) { return std::int64_t{0}; };
    return evaluate(tokens, {0, tokens.list.size() - 1}, zero) != 0;
  }

  void include(const Line& line, int depth) {
    if (line.size() < 3) fail(line[0], "#include needs a name");
    const bool angled = line[2].is("<");
    if (!angled && line[2].kind != Token::text) fail(line[0], "#include needs a name in \"\" or <>");
    std::string name;
    for (std::size_t i = 2; i < line.size(); ++i) name += line[i].spelling;
    if (name.size() < 3 || name.back() != (angled ? '>' : '"'))
      fail(line[0], "#include needs a name in \"\" or <>");
    name = name.substr(1, name.size() - 2);
    if (once_.count(name)) return;
    if (depth == kDeepest) fail(line[0], "files include each other without end");
    const std::optional<std::string> text = options_.include ? options_.include(name, angled) : std::nullopt;
    if (!text) fail(line[0], "there is no file " + name + " to include");
    read(*text, name, depth + 1);
  }

  static std::string text_of(const Line& line, std::size_t first) {
    std::string text;
    for (std::size_t i = first; i < line.size(); ++i) {
      if (!text.empty() && !line[i].space.empty()) text += ' ';
      text += line[i].spelling;
    }
    return text;
  }

  void put(const Line& text) {
    Line tokens = macros_.expand(text);
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      if (tokens[i].is("_Pragma") && i + 3 < tokens.size() && tokens[i + 2].kind == Token::text) {
        put_pragma(unquoted(tokens[i + 2].spelling), tokens[i]);
        i += 3;
      } else {
        put(std::move(tokens[i]));
      }
    }
  }

  void put(Token token) {
    const std::string& s = token.spelling;
    if (token.kind == Token::text && (s.size() < 2 || s.back() != s.front()))
      fail(token, "a text that does not end on its line");
    token.space = token.starts_line ? "\n" : token.space.empty() ? "" : " ";
    out_.list.push_back(std::move(token));
  }

  void put_pragma(const std::string& text, const Token& at) {
    const std::string kept = options_.pragma ? options_.pragma(text) : text;
    if (kept.empty()) return;
    std::string quoted = "\"";
    for (const char c : kept) quoted += (c == '"' || c == '\\' ? "\\" : "") + std::string(1, c);
    for (const auto& [kind, spelling] : {std::pair{Token::word, std::string("_Pragma")},
                                         {Token::mark, "("},
                                         {Token::text, quoted + "\""},
                                         {Token::mark, ")"}}) {
      Token token = at;
      token.kind = kind;
      token.spelling = spelling;
      token.space = kind == Token::word ? " " : "";
      token.starts_line = false;
      out_.list.push_back(token);
    }
  }

  static std::string unquoted(const std::string& text) {
    std::string result;
    for (std::size_t i = 1; i + 1 < text.size(); ++i) {
      if (text[i] == '\\' && i + 2 < text.size()) ++i;
      result += text[i];
    }
    return result;
  }

  [[noreturn]] void fail(const Token& at, const std::string& what) const {
    throw SourceError(out_.where(at) + ": error: " + what);
  }

  const PreprocessOptions& options_;
  Tokens out_;
  Macros macros_{out_};
  std::vector<Branches> branches_;
  std::set<std::string> once_;  // files that say #pragma once
};

}  // namespace

Tokens preprocess(std::string_view text, const std::string& name, const PreprocessOptions& options) {
  return Preprocessor(options).run(text, name);
}

std::string with_lines(const Tokens& tokens) {
  constexpr int kNear = 3;  // lines that are skipped by newlines
  std::string text;
  int file = -1, line = 0;
  for (const Token& token : tokens.list) {
    if (token.kind == Token::end) break;
    if (token.spelling.empty()) continue;
    const bool here = token.file == file && token.line >= line && token.line <= line + kNear;
    if (here) {
      text.append(static_cast<std::size_t>(token.line - line), '\n');
    } else {
      text += "\n#line " + std::to_string(token.line) + " \"" +
              tokens.files[static_cast<std::size_t>(token.file)] + "\"\n";
    }
    if (here && token.line == line && !token.space.empty()) text += ' ';
    file = token.file;
    line = token.line;
    text += token.spelling;
  }
  return text + "\n";
}

}  // namespace npu::msl
