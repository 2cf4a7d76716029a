// A file in memory, read-only. Pages are read when they are touched.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace npu {

class MappedFile {
 public:
  // Throws Error, with the path and the system's reason.
  static std::shared_ptr<MappedFile> open(const std::string& path);

  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {static_cast<const std::byte*>(data_), size_}; }

 private:
  MappedFile(void* data, std::size_t size) : data_(data), size_(size) {}
  void* data_;
  std::size_t size_;
};

}  // namespace npu
