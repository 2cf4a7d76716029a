#include "cuda/lower/headers.h"

#include <set>

namespace npu::cuda {

namespace {

void append(std::string& to, const std::string& name, std::set<std::string>& included) {
  if (!included.insert(name).second) return;
  std::string_view text;
  for (int i = 0; i < kHeaderCount; ++i) {
    if (kHeaders[i].name == name) text = kHeaders[i].text;
  }
  constexpr std::string_view kInclude = "#include \"", kOnce = "#pragma once";
  const auto enter = [&](int line) { to += "#line " + std::to_string(line) + " \"msl/" + name + "\"\n"; };
  enter(1);
  for (int line = 1; !text.empty(); ++line) {
    const std::string_view one = text.substr(0, text.find('\n'));
    text.remove_prefix(one.size() < text.size() ? one.size() + 1 : text.size());
    if (one.starts_with(kInclude)) {
      const std::string_view rest = one.substr(kInclude.size());
      append(to, std::string(rest.substr(0, rest.find('"'))), included);
      enter(line);
    } else if (!one.starts_with(kOnce)) {
      to.append(one);
    }
    to += '\n';
  }
}

}  // namespace

const std::string& metal_stdlib() {
  static const std::string text = [] {
    std::string all;
    std::set<std::string> included;
    append(all, "entry.h", included);
    return all;
  }();
  return text;
}

}  // namespace npu::cuda
