#include "npu/buffer.h"

#include <cstring>
#include <new>

#include "npu/error.h"

namespace npu {

namespace {
constexpr std::size_t kAlignment = 64;
constexpr std::size_t kHugePage = std::size_t{2} << 20;
}  // namespace

Buffer Buffer::allocate(DType dtype, std::vector<std::int64_t> shape, bool zero) {
  Buffer buffer;
  buffer.dtype_ = dtype;
  buffer.shape_ = std::move(shape);
  // Kernels may read a whole vector where a tensor ends; never past this.
  const std::size_t bytes = (buffer.bytes() + kAlignment) / kAlignment * kAlignment;
  const std::size_t alignment = bytes >= kHugePage ? 4096 : kAlignment;
  void* const data = ::operator new(bytes, std::align_val_t(alignment), std::nothrow);
  if (data == nullptr) {
    throw Error(ErrorKind::kUnavailable, {.area = "memory",
                                          .what = "not enough memory for a tensor",
                                          .got = std::string(dtype_name(dtype)) + shape_text(buffer.shape_) +
                                                 ", " + std::to_string(bytes) + " bytes"});
  }
  if (zero) std::memset(data, 0, bytes);
  buffer.data_ = data;
  buffer.owner_ = std::shared_ptr<void>(
      data, [alignment](void* p) { ::operator delete(p, std::align_val_t(alignment)); });
  return buffer;
}

Buffer Buffer::wrap(void* data, DType dtype, std::vector<std::int64_t> shape, std::shared_ptr<void> owner) {
  static std::byte nothing[kAlignment];
  Buffer buffer;
  buffer.data_ = data != nullptr ? data : nothing;
  buffer.dtype_ = dtype;
  buffer.shape_ = std::move(shape);
  buffer.owner_ = std::move(owner);
  return buffer;
}

std::int64_t Buffer::elements() const noexcept {
  std::int64_t n = 1;
  for (const auto extent : shape_) n *= extent;
  return n;
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

}  // namespace npu
