// What the words and numbers of MSL are in C++.
#include <array>
#include <string_view>

#include "lowering.h"

namespace softmetal {

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

bool is_float(const std::string& s) {
  bool hexadecimal = s.size() > 1 && (s[1] == 'x' || s[1] == 'X');
  return s.find('.') != std::string::npos || s.find_first_of(hexadecimal ? "pP" : "eE") != std::string::npos;
}

}  // namespace

void Lowering::check_words() {
  for (size_t i = 0; i + 1 < list_.size(); ++i) {
    if (list_[i].kind != Token::word) continue;
    for (const Forbidden& forbidden : kForbidden)
      if (list_[i].is(forbidden.word)) fail(i, std::string(forbidden.reason));
  }
}

// 1.0 is a float, 1.0h a half and 1.0bf a bfloat.
void Lowering::lower_literals() {
  for (Token& token : list_) {
    if (token.kind != Token::number || !is_float(token.spelling)) continue;
    std::string& s = token.spelling;
    bool hexadecimal = s.size() > 1 && (s[1] == 'x' || s[1] == 'X');
    if (s.size() > 2 && s.ends_with("bf") && !hexadecimal)
      s = "bfloat(" + s.substr(0, s.size() - 1) + ")";
    else if (s.ends_with('h') || s.ends_with('H'))
      s = s.substr(0, s.size() - 1) + "f16";
    else if (!s.ends_with('f') && !s.ends_with('F'))
      s += "f";
  }
}

}  // namespace softmetal
