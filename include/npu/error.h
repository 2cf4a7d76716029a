// The one exception type the library throws.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace npu {

// Python maps each kind to a subclass of npu_runtime.NPUError.
enum class ErrorKind {
  kInvalidValue,  // an argument, an environment variable or a file has an invalid value
  kMissing,       // weights that a program reads are missing
  kUnavailable,   // not available on this machine or in this build
  kInternal,      // a bug in the library
};

// The message reads: [area] what happened; got <value>; expected <rule>; try <action>.
// Parts that are empty are left out.
class Error : public std::runtime_error {
 public:
  struct Parts {
    std::string area = {};
    std::string what = {};
    std::string got = {};
    std::string expected = {};
    std::string action = {};
  };

  Error(ErrorKind kind, const Parts& parts);

  ErrorKind kind() const noexcept { return kind_; }

 private:
  ErrorKind kind_;
};

std::string format_error(const Error::Parts& parts);

// How a value from outside appears in a message: quoted, control characters escaped, long text shortened.
std::string quoted(std::string_view text);

}  // namespace npu
