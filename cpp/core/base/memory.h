// Memory that a device's kernels can reach.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "npu/buffer.h"

namespace npu {

class DeviceBackend;

// A block. Without a device it is a file that was mapped, whole pages of which a device may be able to share.
class Memory {
 public:
  // `on_host`: the host can follow addresses in it, as kernels do.
  Memory(const void* device, std::byte* data, std::size_t bytes, bool on_host = true)
      : device_(device), data_(data), bytes_(bytes), on_host_(on_host) {}
  virtual ~Memory() = default;
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  const void* device() const { return device_; }  // the owner; only compared
  std::byte* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }
  bool on_host() const { return on_host_; }

  // To and from the host, and from memory of the same device. They wait for the device's work and are done
  // when they return.
  virtual void read(void* to, const std::byte* from, std::size_t bytes) const;
  virtual void write(std::byte* to, const void* from, std::size_t bytes) const;
  virtual void copy(std::byte* to, const Memory& source, const std::byte* from, std::size_t bytes) const;

  // What lies there will not be read soon. It stays as it is, but need not stay in memory.
  virtual void unused(const void* /*data*/, std::size_t /*bytes*/) const {}

 private:
  const void* device_;
  std::byte* data_;
  std::size_t bytes_;
  bool on_host_;
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

inline bool on_host(const Address& address) { return address.memory == nullptr || address.memory->on_host(); }

// Between any two memories; through the host where these are of different devices.
void copy_bytes(const Address& to, const Address& from, std::size_t bytes);

}  // namespace npu
