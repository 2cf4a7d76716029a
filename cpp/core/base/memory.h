// Memory that a device's kernels can reach.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "npu/buffer.h"

namespace npu {

class DeviceBackend;

// Where memory is, as DLPack says it; a type of 0 where DLPack has no name for it.
struct DlDevice {
  int type = 0, id = 0;
  bool operator==(const DlDevice&) const = default;
};
inline constexpr int kDlCpu = 1, kDlCuda = 2;

struct MemoryRead {
  void* to = nullptr;
  const std::byte* from = nullptr;
  std::size_t bytes = 0;
};

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

  // To and from the host, and from memory of the same device, in order with the device's work. What was read
  // is there when they return, and what was written from may change; a device may still be at work on the
  // rest.
  virtual void read(void* to, const std::byte* from, std::size_t bytes) const;
  // From any memory of this device, in one go.
  virtual void read_all(std::span<const MemoryRead> reads) const;
  virtual void write(std::byte* to, const void* from, std::size_t bytes) const;
  virtual void copy(std::byte* to, const Memory& source, const std::byte* from, std::size_t bytes) const;

  virtual DlDevice dl_device() const { return on_host_ ? DlDevice{kDlCpu, 0} : DlDevice(); }
  // Others may use it from now on, in streams of theirs.
  virtual void lend() const {}

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

// The same tensors where the host reaches them: those that it does already, and copies of the others, fetched
// together.
std::vector<Buffer> on_host(std::span<const Buffer> buffers);

// Between any two memories; through the host where these are of different devices.
void copy_bytes(const Address& to, const Address& from, std::size_t bytes);

}  // namespace npu
