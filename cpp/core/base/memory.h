// Memory that a device's kernels can reach.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "npu/buffer.h"

namespace npu {

class DeviceBackend;

// A block, which the host can reach too. Without a device it is a file that was mapped, whole pages of which
// a device may be able to share.
class Memory {
 public:
  Memory(const void* device, std::byte* data, std::size_t bytes)
      : device_(device), data_(data), bytes_(bytes) {}
  virtual ~Memory() = default;
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  const void* device() const { return device_; }  // the owner; only compared
  std::byte* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

  // What lies there will not be read soon. It stays as it is, but need not stay in memory.
  virtual void unused(const void* /*data*/, std::size_t /*bytes*/) const {}

 private:
  const void* device_;
  std::byte* data_;
  std::size_t bytes_;
};

// Where a value is during a run; `memory` is null for what only the host reaches.
struct Address {
  std::byte* data = nullptr;
  const Memory* memory = nullptr;
};

// Negative when no memory can hold it.
std::int64_t tensor_bytes(DType dtype, const std::vector<std::int64_t>& shape);
[[noreturn]] void refuse_memory(DType dtype, const std::vector<std::int64_t>& shape,
                                const std::string& more = {});

inline Address address_of(const Buffer& buffer) {
  return {static_cast<std::byte*>(buffer.data()), buffer.memory()};
}

}  // namespace npu
