#include "cuda/device/memory.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "npu/error.h"

namespace npu::cuda {

namespace {

// Kernels may read a whole vector at the end of a tensor, but never past this.
constexpr std::size_t kBeyond = 64;

CuAddress address_of(const std::byte* at) { return reinterpret_cast<CuAddress>(at); }

std::string megabytes(std::size_t bytes) { return std::to_string((bytes + (1 << 20) - 1) >> 20) + " MiB"; }

[[noreturn]] void out_of_memory(const Context& context, std::size_t bytes) {
  std::size_t free = 0, total = 0;
  api().memory_info(&free, &total);
  throw Error(ErrorKind::kUnavailable, {.area = "memory",
                                        .what = "not enough memory on the GPU " + context.name(),
                                        .got = std::to_string(bytes) + " bytes were wanted, " +
                                               megabytes(free) + " of " + megabytes(total) + " are free"});
}

// On a stream of its own, done when it returns.
template <class Copy>
void move(Context& context, const std::string& what, Copy&& copy) {
  context.check_alive();
  const Context::Current current(context);
  const BorrowedStream stream(context);
  check(copy(stream.get()), what);
  check(api().synchronize(stream.get()), what);
}

}  // namespace

DeviceMemory::~DeviceMemory() {
  try {
    const Context::Current current(*context_);
    api().free(address_of(data()));
  } catch (const Error&) {  // the driver is gone, and its memory with it
  }
}

void DeviceMemory::read(void* to, const std::byte* from, std::size_t bytes) const {
  move(*context_, "reading memory of the GPU",
       [&](CuStream stream) { return api().copy_to_host(to, address_of(from), bytes, stream); });
}

void DeviceMemory::write(std::byte* to, const void* from, std::size_t bytes) const {
  move(*context_, "writing memory of the GPU",
       [&](CuStream stream) { return api().copy_to_device(address_of(to), from, bytes, stream); });
}

void DeviceMemory::copy(std::byte* to, const Memory&, const std::byte* from, std::size_t bytes) const {
  move(*context_, "copying memory of the GPU", [&](CuStream stream) {
    return api().copy_on_device(address_of(to), address_of(from), bytes, stream);
  });
}

PinnedMemory::~PinnedMemory() {
  try {
    const Context::Current current(*context_);
    api().free_host(data());
  } catch (const Error&) {  // as above
  }
}

std::shared_ptr<Memory> allocate_on_device(const void* device, const std::shared_ptr<Context>& context,
                                           std::size_t bytes, bool zero) {
  context->check_alive();
  const Context::Current current(*context);
  CuAddress address = 0;
  const std::size_t room = bytes + kBeyond;
  const CuResult result = api().allocate(&address, room);
  if (result == kCuOutOfMemory) out_of_memory(*context, room);
  check(result, "allocating memory of the GPU");
  auto memory = std::make_shared<DeviceMemory>(device, context, address, bytes);
  if (zero) {
    const BorrowedStream stream(*context);
    check(api().fill(address, 0, room, stream.get()), "filling memory of the GPU");
    check(api().synchronize(stream.get()), "filling memory of the GPU");
  }
  return memory;
}

std::shared_ptr<Memory> allocate_pinned(const void* device, const std::shared_ptr<Context>& context,
                                        std::size_t bytes) {
  context->check_alive();
  const Context::Current current(*context);
  void* data = nullptr;
  check(api().allocate_host(&data, std::max<std::size_t>(bytes, 1), kCuHostPortable | kCuHostMapped),
        "allocating pinned memory");
  std::memset(data, 0, bytes);
  return std::make_shared<PinnedMemory>(device, context, data, bytes);
}

}  // namespace npu::cuda
