#include "core/base/memory.h"

#include <cstring>

namespace npu {

void Memory::read(void* to, const std::byte* from, std::size_t bytes) const { std::memmove(to, from, bytes); }
void Memory::write(std::byte* to, const void* from, std::size_t bytes) const {
  std::memmove(to, from, bytes);
}
void Memory::copy(std::byte* to, const Memory&, const std::byte* from, std::size_t bytes) const {
  std::memmove(to, from, bytes);
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
