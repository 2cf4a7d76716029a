#include "core/base/memory.h"

#include <cstring>
#include <map>
#include <utility>

namespace npu {

void Memory::read(void* to, const std::byte* from, std::size_t bytes) const { std::memmove(to, from, bytes); }
void Memory::write(std::byte* to, const void* from, std::size_t bytes) const {
  std::memmove(to, from, bytes);
}
void Memory::copy(std::byte* to, const Memory&, const std::byte* from, std::size_t bytes) const {
  std::memmove(to, from, bytes);
}

void Memory::read_all(std::span<const MemoryRead> reads) const {
  for (const MemoryRead& one : reads) read(one.to, one.from, one.bytes);
}

std::vector<Buffer> on_host(std::span<const Buffer> buffers) {
  std::vector<Buffer> result(buffers.begin(), buffers.end());
  std::map<const void*, std::pair<const Memory*, std::vector<MemoryRead>>> reads;  // by device
  for (Buffer& buffer : result) {
    if (!buffer || buffer.on_host()) continue;
    Buffer copy = Buffer::allocate(buffer.dtype(), buffer.shape());
    auto& [memory, of_device] = reads[buffer.memory()->device()];
    memory = buffer.memory();
    if (copy.bytes() > 0)
      of_device.push_back({copy.data(), static_cast<const std::byte*>(buffer.data()), copy.bytes()});
    buffer = std::move(copy);
  }
  for (const auto& [device, of_device] : reads) of_device.first->read_all(of_device.second);
  return result;
}

void copy_bytes(const Address& to, const Address& from, std::size_t bytes) {
  if (bytes == 0) return;
  if (on_host(to) && on_host(from)) {
    std::memmove(to.data, from.data, bytes);
  } else if (on_host(to)) {
    from.memory->read(to.data, from.data, bytes);
  } else if (on_host(from)) {
    to.memory->write(to.data, from.data, bytes);
  } else if (to.memory->device() == from.memory->device()) {
    to.memory->copy(to.data, *from.memory, from.data, bytes);
  } else {
    std::vector<std::byte> passing(bytes);
    from.memory->read(passing.data(), from.data, bytes);
    to.memory->write(to.data, passing.data(), bytes);
  }
}

}  // namespace npu
