// The one exception type the library throws.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace npu {

// What kind of mistake or trouble it was; Python maps each kind to a class below npu_runtime.NPUError.
enum class ErrorKind {
  kInvalidValue,  // an argument, an environment variable or a file has a wrong value
  kMissing,       // weights that a program reads are not there
  kUnavailable,   // the machine, or this build, has not got what was asked for
  kInternal,      // a defect in the library itself
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
