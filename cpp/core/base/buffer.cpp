#include "npu/buffer.h"

#include <cstring>
#include <new>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "core/base/memory.h"
#include "npu/error.h"

namespace npu {

namespace {
constexpr std::size_t kAlignment = 64;
constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr std::size_t kLarge = 2 * kHugePage;

// Reading a large tensor once through is some percent faster from large pages. Only whole ones are asked for,
// so that what becomes resident is no more than was asked for.
void prefer_huge_pages([[maybe_unused]] void* data, [[maybe_unused]] std::size_t bytes) {
#ifdef __linux__
  ::madvise(data, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
}

}  // namespace

std::int64_t tensor_bytes(DType dtype, const std::vector<std::int64_t>& shape) {
  constexpr std::int64_t kMost = std::int64_t{1} << 62;
  auto size = static_cast<std::int64_t>(size_of(dtype));
  for (const auto extent : shape) {
    if (extent == 0) return 0;
  }
  for (const auto extent : shape) {
    if (extent < 0 || size > kMost / extent) return -1;
    size *= extent;
  }
  return size;
}

void refuse_memory(DType dtype, const std::vector<std::int64_t>& shape, const std::string& more) {
  throw Error(ErrorKind::kUnavailable, {.area = "memory",
                                        .what = "not enough memory for a tensor",
                                        .got = std::string(dtype_name(dtype)) + shape_text(shape) + more});
}

Buffer Buffer::allocate(DType dtype, std::vector<std::int64_t> shape, bool zero) {
  const std::int64_t size = tensor_bytes(dtype, shape);
  if (size < 0) refuse_memory(dtype, shape);
  // Kernels may read a whole vector at the end of a tensor, but never past this.
  const std::size_t bytes = (static_cast<std::size_t>(size) + kAlignment) / kAlignment * kAlignment;
  const std::size_t alignment = bytes >= kLarge ? kHugePage : bytes >= kHugePage ? 4096 : kAlignment;
  void* const data = ::operator new(bytes, std::align_val_t(alignment), std::nothrow);
  if (data == nullptr) refuse_memory(dtype, shape, ", " + std::to_string(bytes) + " bytes");
  if (bytes >= kLarge) prefer_huge_pages(data, bytes);
  std::shared_ptr<void> owner(data,
                              [alignment](void* p) { ::operator delete(p, std::align_val_t(alignment)); });
  if (zero) std::memset(data, 0, bytes);
  return wrap(data, dtype, std::move(shape), std::move(owner));
}

Buffer Buffer::wrap(void* data, DType dtype, std::vector<std::int64_t> shape, std::shared_ptr<void> owner) {
  static std::byte nothing[kAlignment];
  Buffer buffer;
  buffer.tensor_ = std::make_shared<const Tensor>(
      Tensor{data != nullptr ? data : nothing, dtype, std::move(shape), std::move(owner), nullptr});
  return buffer;
}

Buffer Buffer::in(std::shared_ptr<Memory> memory, void* data, DType dtype, std::vector<std::int64_t> shape) {
  Buffer buffer;
  const Memory* const reachable = memory.get();
  buffer.tensor_ =
      std::make_shared<const Tensor>(Tensor{data, dtype, std::move(shape), std::move(memory), reachable});
  return buffer;
}

std::shared_ptr<Memory> Buffer::shared_memory() const {
  return memory() ? std::static_pointer_cast<Memory>(tensor_->owner) : nullptr;
}

bool Buffer::on_host() const noexcept { return npu::on_host(address_of(*this)); }

void Buffer::read(void* to) const {
  copy_bytes({static_cast<std::byte*>(to), nullptr}, address_of(*this), bytes());
}

void Buffer::write(const void* from) const {
  copy_bytes(address_of(*this), {static_cast<std::byte*>(const_cast<void*>(from)), nullptr}, bytes());
}

void Buffer::copy_from(const Buffer& other) const {
  copy_bytes(address_of(*this), address_of(other), bytes());
}

Buffer Buffer::to_host() const {
  if (on_host()) return *this;
  Buffer copy = allocate(dtype(), shape());
  copy.copy_from(*this);
  return copy;
}

const std::vector<std::int64_t>& Buffer::shape() const noexcept {
  static const std::vector<std::int64_t> none;
  return tensor_ ? tensor_->shape : none;
}

std::int64_t Buffer::elements() const noexcept {
  std::int64_t n = 1;
  for (const auto extent : shape()) n *= extent;
  return n;
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

}  // namespace npu
