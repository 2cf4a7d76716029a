// A compiled library in this process, and the compiler that makes them.
#pragma once

#include <string>
#include <vector>

#include "machine.h"

namespace softmetal {

class Image {
 public:
  explicit Image(const std::string& path);
  Image(const Image&) = delete;
  Image& operator=(const Image&) = delete;
  ~Image();

  const KernelEntry* find(const std::string& name) const;
  const LibraryTable& table() const { return table_; }
  const std::string& path() const { return path_; }
  const Layout& layout(const KernelEntry& kernel) const;
  bool holds(const void* address) const;        // code or data of the library itself
  std::string line_of(const void* code) const;  // "file:line" of an instruction, or nothing

 private:
  std::string path_;
  void* handle_;
  LibraryTable table_{};
  const char* begin_ = nullptr;
  const char* end_ = nullptr;
};

// The path of the shared library that the source compiles to: found in a cache, else made and put there.
std::string compile(const std::string& source, const CompileOptions& options, Mode mode);

// What the lowering makes of a source, for tools.
std::string lowered_text(const std::string& source, const CompileOptions& options);

}  // namespace softmetal
