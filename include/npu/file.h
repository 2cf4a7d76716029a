// Files that are mapped into memory, and parts of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>

namespace npu {

class Memory;

// A file, or a part of one, read-only. Pages are read when they are touched, and stay mapped as long as a
// File, or weights or a program that were loaded from it, are held.
class File {
 public:
  // Throws Error when it cannot be read.
  static File open(const std::string& path);
  static File copy_of(std::span<const std::byte> bytes, std::string name);

  // Throws Error when it would reach beyond the end. `name` is for errors.
  File part(const std::string& name, std::uint64_t offset, std::uint64_t size) const;

  const std::string& name() const { return name_; }
  std::span<const std::byte> bytes() const { return bytes_; }

  const std::shared_ptr<Memory>& memory() const { return memory_; }  // for the library itself

 private:
  File(std::string name, std::span<const std::byte> bytes, std::shared_ptr<Memory> memory)
      : name_(std::move(name)), bytes_(bytes), memory_(std::move(memory)) {}

  std::string name_;
  std::span<const std::byte> bytes_;
  std::shared_ptr<Memory> memory_;
};

// Of files: 64-bit FNV-1a over words of 64 bits, as docs/program-format.md has it.
std::uint64_t checksum(std::span<const std::byte> bytes);

}  // namespace npu
