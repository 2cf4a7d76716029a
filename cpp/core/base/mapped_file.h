// A file in memory, read-only. Pages are read when they are touched.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "core/base/memory.h"

namespace npu {

class MappedFile : public Memory {
 public:
  // Throws Error, with the path and the system's reason.
  static std::shared_ptr<MappedFile> open(const std::string& path);

  ~MappedFile() override;

  std::span<const std::byte> bytes() const { return {data(), size()}; }

  void unused(const void* data, std::size_t bytes) const override;

 private:
  using Memory::Memory;
  std::size_t size() const { return Memory::bytes(); }
};

}  // namespace npu
