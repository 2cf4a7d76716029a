#pragma once

#include <stdexcept>

namespace npu::msl {

// A source that is not MSL as far as it is known here; the message begins with file and line.
struct SourceError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace npu::msl
