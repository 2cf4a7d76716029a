#include "npu/error.h"

#include <cstdio>

namespace npu {

namespace {

constexpr std::size_t kLongestQuote = 120;

void append_part(std::string& out, const char* lead, const std::string& part) {
  if (part.empty()) return;
  out += "; ";
  out += lead;
  out += part;
}

}  // namespace

std::string format_error(const Error::Parts& parts) {
  std::string out = "[" + parts.area + "] " + parts.what;
  append_part(out, "got ", parts.got);
  append_part(out, "expected ", parts.expected);
  append_part(out, "try ", parts.action);
  return out;
}

Error::Error(ErrorKind kind, const Parts& parts) : std::runtime_error(format_error(parts)), kind_(kind) {}

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text.substr(0, kLongestQuote)) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte >= 0x7f) {
      // Also bytes above 0x7f: cutting a UTF-8 sequence would make text that Python cannot decode.
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\x%02x", byte);
      out += escaped;
    } else {
      out += c;
    }
  }
  out += '"';
  if (text.size() > kLongestQuote) out += "... (" + std::to_string(text.size()) + " bytes)";
  return out;
}

}  // namespace npu
