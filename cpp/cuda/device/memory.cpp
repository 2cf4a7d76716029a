#include "cuda/device/memory.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>

#include "core/base/text.h"
#include "cuda/device/transfers.h"
#include "gpu/device/forks.h"
#include "npu/error.h"

namespace npu::cuda {

namespace {

// Kernels may read a whole vector at the end of a tensor, but never past this.
constexpr std::size_t kBeyond = 64;

CuAddress address_of(const std::byte* at) { return reinterpret_cast<CuAddress>(at); }

[[noreturn]] void out_of_memory(const Context& context, std::size_t bytes) {
  std::size_t free = 0, total = 0;
  api().memory_info(&free, &total);
  throw Error(ErrorKind::kUnavailable,
              {.area = "memory",
               .what = "not enough memory on the GPU " + context.name(),
               .got = "a request for " + bytes_text(bytes) + "; buffers of this process have " +
                      bytes_text(context.allocated()) + ", and " + bytes_text(free) + " of " +
                      bytes_text(total) + " are free",
               .action = "freeing tensors, here or in PyTorch "
                         "(torch.cuda.empty_cache()), or a smaller program"});
}

}  // namespace

void GpuMemory::settle(bool shared) const {
  if (shared) context_->transfers().finish();
}

void GpuMemory::read(void* to, const std::byte* from, std::size_t bytes) const {
  const MemoryRead one{to, from, bytes};
  read_all({&one, 1});
}

void GpuMemory::read_all(std::span<const MemoryRead> reads) const {
  gpu::refuse_forked("cuda");
  context_->transfers().read(reads);
}

void GpuMemory::write(std::byte* to, const void* from, std::size_t bytes) const {
  gpu::refuse_forked("cuda");
  context_->transfers().write(address_of(to), from, bytes);
  settle(lent_);
}

void GpuMemory::copy(std::byte* to, const Memory& source, const std::byte* from, std::size_t bytes) const {
  gpu::refuse_forked("cuda");
  context_->transfers().copy(address_of(to), address_of(from), bytes);
  settle(lent_ || static_cast<const GpuMemory&>(source).lent_);
}

void GpuMemory::lend() const {
  gpu::refuse_forked("cuda");
  lent_ = true;
  settle(true);
}

DeviceMemory::DeviceMemory(const void* device, std::shared_ptr<Context> context, CuAddress address,
                           std::size_t bytes, std::size_t room)
    : GpuMemory(device, std::move(context), address, bytes), room_(room) {
  this->context().count_allocated(static_cast<std::ptrdiff_t>(room_));
}

DeviceMemory::~DeviceMemory() {
  context().count_allocated(-static_cast<std::ptrdiff_t>(room_));
  if (gpu::is_forked()) return;  // it is the parent's
  context().transfers().stop_using();
  const Context::Current current(context(), std::nothrow);
  api().free(address_of(data()));
}

ForeignMemory::~ForeignMemory() {
  if (!gpu::is_forked()) context().transfers().stop_using();
}

PinnedMemory::~PinnedMemory() {
  if (gpu::is_forked()) return;
  const Context::Current current(*context_, std::nothrow);
  api().free_host(data());
}

std::shared_ptr<Memory> allocate_on_device(const void* device, const std::shared_ptr<Context>& context,
                                           std::size_t bytes, bool zero) {
  context->check_alive();
  const Context::Current current(*context);
  CuAddress address = 0;
  const std::size_t room = bytes + kBeyond;
  const CuResult result = api().allocate(&address, room);
  if (result == kCuOutOfMemory) out_of_memory(*context, room);
  context->check_work(result, "allocating memory of the GPU");
  auto memory = std::make_shared<DeviceMemory>(device, context, address, bytes, room);
  if (zero) context->transfers().fill(address, 0, room);
  return memory;
}

std::shared_ptr<Memory> allocate_pinned(const void* device, const std::shared_ptr<Context>& context,
                                        std::size_t bytes) {
  context->check_alive();
  const Context::Current current(*context);
  void* const data = allocate_pinned_bytes(*context, std::max<std::size_t>(bytes, 1));
  std::memset(data, 0, bytes);
  return std::make_shared<PinnedMemory>(device, context, data, bytes);
}

}  // namespace npu::cuda
