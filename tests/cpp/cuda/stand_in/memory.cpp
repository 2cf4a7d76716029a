// Device memory is addresses that fault when the host follows them, and bytes elsewhere.
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#include "cuda/stand_in/world.h"

namespace stand_in {

namespace {

constexpr std::size_t kAddressSpace = std::size_t{1} << 40;  // never used twice
constexpr std::size_t kGap = 4096;                           // between allocations, so that overruns are seen
constexpr std::size_t kAlignment = 512;
constexpr int kFresh = 0xcd;  // memory is not zero at first

std::size_t rounded(std::size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

std::string text_of(const Allocation& allocation) {
  return std::to_string(allocation.bytes) + " bytes of " +
         (allocation.host ? "pinned memory" : "GPU " + std::to_string(allocation.gpu));
}

}  // namespace

std::size_t World::used(int gpu) const {
  std::size_t bytes = 0;
  for (const auto& [address, allocation] : allocations_) {
    if (!allocation.host && allocation.gpu == gpu) bytes += rounded(allocation.bytes);
  }
  return bytes;
}

std::size_t World::live(bool host) const {
  return static_cast<std::size_t>(std::count_if(allocations_.begin(), allocations_.end(),
                                                [&](const auto& one) { return one.second.host == host; }));
}

Result World::allocate(int gpu, std::size_t bytes, Address* address) {
  if (bytes == 0) return kInvalidValue;
  ++counters.allocations;
  if (++asked_ == settings.refuse_allocation) return kOutOfMemory;
  const std::size_t room = rounded(bytes), all = used(gpu);
  if (all + room > static_cast<std::size_t>(settings.memory)) return kOutOfMemory;
  counters.peak_bytes = std::max(counters.peak_bytes, static_cast<long>(all + room));
  if (next_ == 0) {
    void* const region =
        ::mmap(nullptr, kAddressSpace, PROT_NONE, MAP_PRIVATE | MAP_ANON | MAP_NORESERVE, -1, 0);
    if (region == MAP_FAILED) return kOutOfMemory;
    next_ = reinterpret_cast<Address>(region);
    end_ = next_ + kAddressSpace;
  }
  if (next_ + room + kGap > end_) return kOutOfMemory;
  Allocation allocation{.address = next_, .bytes = bytes, .gpu = gpu};
  allocation.shadow = static_cast<std::byte*>(std::malloc(room));
  if (allocation.shadow == nullptr) return kOutOfMemory;
  std::memset(allocation.shadow, kFresh, room);
  next_ += (room + kGap + kGap - 1) / kGap * kGap;
  *address = allocation.address;
  allocations_.emplace(allocation.address, std::move(allocation));
  return kSuccess;
}

Result World::allocate_host(std::size_t bytes, void** data) {
  if (bytes == 0) return kInvalidValue;
  ++counters.host_allocations;
  *data = ::operator new(bytes, std::align_val_t(kGap), std::nothrow);
  if (*data == nullptr) return kOutOfMemory;
  std::memset(*data, kFresh, bytes);
  const auto address = reinterpret_cast<Address>(*data);
  freed_.erase(address);
  allocations_.emplace(
      address,
      Allocation{.address = address, .bytes = bytes, .host = true, .shadow = static_cast<std::byte*>(*data)});
  return kSuccess;
}

Result World::free(Address address, bool host) {
  const auto known = allocations_.find(address);
  if (known == allocations_.end() || known->second.host != host) {
    find(freed_.contains(address) ? "memory is freed twice" : "what is freed was not allocated");
    return kInvalidValue;
  }
  Allocation& allocation = known->second;
  forget_done(allocation);
  if (!allocation.accesses.empty()) {
    const Access& access = allocation.accesses.back();
    find(text_of(allocation) + " are freed while stream " + std::to_string(access.stream) +
         " uses them: " + access.name);
    drain_all();  // as the driver does
  }
  ++counters.frees;
  allocation.accesses.clear();
  if (host) {
    ::operator delete(allocation.shadow, std::align_val_t(kGap));
  } else {
    std::free(allocation.shadow);
    allocation.shadow = nullptr;
    freed_.emplace(address, allocation);
  }
  allocations_.erase(known);
  return kSuccess;
}

Allocation* World::containing(Address address) {
  auto after = allocations_.upper_bound(address);
  if (after == allocations_.begin()) return nullptr;
  Allocation& allocation = std::prev(after)->second;
  return address < allocation.end() ? &allocation : nullptr;
}

const Allocation* World::freed_at(Address address) const {
  const auto after = freed_.upper_bound(address);
  if (after == freed_.begin()) return nullptr;
  const Allocation& allocation = std::prev(after)->second;
  return address < allocation.end() ? &allocation : nullptr;
}

Allocation* World::check(const std::string& name, Address address, std::size_t bytes) {
  Allocation* const allocation = containing(address);
  if (allocation == nullptr) {
    if (const Allocation* const freed = freed_at(address)) {
      find(name + " uses " + text_of(*freed) + " that were freed");
    } else {
      find(name + " uses memory that was not allocated");
    }
    return nullptr;
  }
  if (bytes > allocation->end() - address) {
    find(name + " reaches " + std::to_string(bytes - (allocation->end() - address)) +
         " bytes beyond the end of " + text_of(*allocation));
    return nullptr;
  }
  return allocation;
}

std::byte* World::bytes_at(Address address) {
  Allocation* const allocation = containing(address);
  return allocation == nullptr ? nullptr : allocation->shadow + (address - allocation->address);
}

std::string World::leaks() const {
  std::string text;
  for (const auto& [address, allocation] : allocations_) text += text_of(allocation) + "\n";
  return text;
}

}  // namespace stand_in
