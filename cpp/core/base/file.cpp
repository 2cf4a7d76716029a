#include "npu/file.h"

#include <cstring>

#include "core/base/mapped_file.h"
#include "npu/error.h"

namespace npu {

namespace {

// Bytes that are not a file, at an alignment that tensors may have in one.
class CopiedBytes : public Memory {
 public:
  explicit CopiedBytes(Buffer buffer)
      : Memory(nullptr, static_cast<std::byte*>(buffer.data()), buffer.bytes()), buffer_(std::move(buffer)) {}

 private:
  Buffer buffer_;
};

}  // namespace

File File::open(const std::string& path) {
  auto file = MappedFile::open(path);
  const auto bytes = file->bytes();
  return {path, bytes, std::move(file)};
}

File File::copy_of(std::span<const std::byte> bytes, std::string name) {
  Buffer buffer = Buffer::allocate(DType::kUInt8, {static_cast<std::int64_t>(bytes.size())});
  if (!bytes.empty()) std::memcpy(buffer.data(), bytes.data(), bytes.size());
  auto memory = std::make_shared<CopiedBytes>(std::move(buffer));
  const std::span<const std::byte> copied(memory->data(), memory->bytes());
  return {std::move(name), copied, std::move(memory)};
}

File File::part(const std::string& name, std::uint64_t offset, std::uint64_t size) const {
  if (offset > bytes_.size() || size > bytes_.size() - offset) {
    throw Error(ErrorKind::kInvalidValue,
                {.area = "file",
                 .what = name_ + ": " + name + " reaches beyond the end of the file",
                 .got = std::to_string(size) + " bytes from byte " + std::to_string(offset) + " on",
                 .expected = "at most " + std::to_string(bytes_.size()) + " bytes in all"});
  }
  return {name_ + ": " + name, bytes_.subspan(offset, size), memory_};
}

std::uint64_t checksum(std::span<const std::byte> bytes) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  const auto mix = [&](std::uint64_t word) {
    hash = (hash ^ word) * 0x100000001b3u;
    hash ^= hash >> 32;
  };
  std::size_t at = 0;
  std::uint64_t word = 0;
  for (; at + sizeof word <= bytes.size(); at += sizeof word) {
    std::memcpy(&word, bytes.data() + at, sizeof word);
    mix(word);
  }
  if (at < bytes.size()) {
    word = 0;
    std::memcpy(&word, bytes.data() + at, bytes.size() - at);
    mix(word);
  }
  return hash;
}

}  // namespace npu
