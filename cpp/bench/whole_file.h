// Files that are either written whole or left as they were.
#pragma once

#include <string>

namespace npu::bench {

// Writes through a file beside `path` that then takes its name; throws npu::Error.
void write_whole_file(const std::string& path, const std::string& text);

}  // namespace npu::bench
