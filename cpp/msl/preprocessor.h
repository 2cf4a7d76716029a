// The preprocessor: macros with # and ##, conditions, files that are included, pragmas.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "msl/tokens.h"

namespace npu::msl {

struct PreprocessOptions {
  std::map<std::string, std::string> macros;  // defined before: name to text
  // The text of a file, or nothing where there is none: "name" or, angled, <name>.
  std::function<std::optional<std::string>(const std::string& name, bool angled)> include;
  // What the text of a pragma becomes: `clang loop unroll(full)`, say. Nothing is left of one that becomes
  // empty; without this function they are left as they are.
  std::function<std::string(const std::string& text)> pragma;
};

// The tokens of `text` and of what it includes, each with its file and line; pragmas become _Pragma("...").
// Throws a SourceError that begins with file and line.
Tokens preprocess(std::string_view text, const std::string& name, const PreprocessOptions& options);

// Text whose compiler messages name the same files and lines, by #line.
std::string with_lines(const Tokens& tokens);

}  // namespace npu::msl
