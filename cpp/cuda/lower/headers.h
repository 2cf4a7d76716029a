// The headers in ../msl, which every build carries as text.
#pragma once

#include <string>
#include <string_view>

namespace npu::cuda {

struct Header {
  std::string_view name, text;
};

extern const Header kHeaders[];  // generated
extern const int kHeaderCount;

// All of them as one text, in the order in which they include each other.
const std::string& metal_stdlib();

}  // namespace npu::cuda
