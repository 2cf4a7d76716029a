// Short sources, preprocessed and parsed.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "msl/error.h"
#include "msl/preprocessor.h"
#include "support/check.h"

namespace npu::test {

using Files = std::map<std::string, std::string>;

inline msl::PreprocessOptions options_with(const Files& files) {
  msl::PreprocessOptions options;
  options.include = [files](const std::string& name, bool angled) -> std::optional<std::string> {
    const auto file = files.find(name);
    if (angled || file == files.end()) return std::nullopt;
    return file->second;
  };
  return options;
}

// The tokens with one blank between those that have any.
inline std::string preprocessed(const std::string& text, const msl::PreprocessOptions& options = {}) {
  const msl::Tokens tokens = msl::preprocess(text, "test", options);
  return tokens.text({0, tokens.list.size() - 1});
}

// The message of the SourceError that `action` throws; empty if it throws none.
template <class F>
std::string source_error(F action) {
  try {
    action();
  } catch (const msl::SourceError& error) {
    return error.what();
  }
  return {};
}

inline std::string preprocess_error(const std::string& text, const Files& files = {}) {
  return source_error([&] { preprocessed(text, options_with(files)); });
}

}  // namespace npu::test
