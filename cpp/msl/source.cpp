#include "msl/source.h"

#include <optional>

#include "msl/error.h"
#include "msl/numbers.h"

namespace npu::msl {

std::int64_t Source::number(Range range) const {
  return evaluate(tokens, range, [&](const std::string& name) -> std::optional<std::int64_t> {
    const auto entry = numbers.find(name);
    if (entry == numbers.end()) return std::nullopt;
    return entry->second;
  });
}

std::size_t Source::matching(std::size_t open) const {
  int depth = 0;
  for (std::size_t i = open; at(i).kind != Token::end; ++i) {
    const std::string& s = at(i).spelling;
    if (at(i).kind != Token::mark) continue;
    if (s == "(" || s == "{" || s == "[") ++depth;
    if (s == "[[") depth += 2;
    if (s == ")" || s == "}" || s == "]") --depth;
    if (depth == 0) return i;
  }
  fail(open, "`" + at(open).spelling + "` is never closed");
}

std::size_t Source::find(std::size_t begin, std::size_t end, const char* spelling) const {
  for (std::size_t i = begin; i < end; ++i) {
    const Token& token = at(i);
    if (token.is(spelling)) return i;
    if (token.is("(") || token.is("{") || token.is("[") || token.is("[[")) i = matching(i);
  }
  return end;
}

void Source::fail(std::size_t i, const std::string& what) const {
  throw SourceError(tokens.where(at(i)) + ": error: " + what);
}

}  // namespace npu::msl
