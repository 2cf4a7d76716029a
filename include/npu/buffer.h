// A dense tensor in memory. Copies of a Buffer share the memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "npu/dtype.h"

namespace npu {

class Memory;

class Buffer {
 public:
  Buffer() = default;  // empty

  // Aligned memory, not initialised unless `zero`. Throws Error when there is not enough.
  static Buffer allocate(DType dtype, std::vector<std::int64_t> shape, bool zero = false);

  // Memory that `owner` keeps alive.
  static Buffer wrap(void* data, DType dtype, std::vector<std::int64_t> shape, std::shared_ptr<void> owner);

  // Part of a device's memory, from `data` on.
  static Buffer in(std::shared_ptr<Memory> memory, void* data, DType dtype, std::vector<std::int64_t> shape);

  explicit operator bool() const noexcept { return tensor_ != nullptr; }
  void* data() const noexcept { return tensor_ ? tensor_->data : nullptr; }
  DType dtype() const noexcept { return tensor_ ? tensor_->dtype : DType::kFloat32; }
  const std::vector<std::int64_t>& shape() const noexcept;
  std::int64_t elements() const noexcept;
  std::size_t bytes() const noexcept { return static_cast<std::size_t>(elements()) * size_of(dtype()); }
  const Memory* memory() const noexcept { return tensor_ ? tensor_->memory : nullptr; }  // of a device
  std::shared_ptr<Memory> shared_memory() const;                                         // the same, or empty
  long users() const noexcept { return tensor_.use_count(); }

  // Whether the host can follow data(). Where it cannot, read, write and copy_from move the bytes, in order
  // with the device's work.
  bool on_host() const noexcept;
  void read(void* to) const;                  // all bytes
  void write(const void* from) const;         // all bytes
  void copy_from(const Buffer& other) const;  // of the same size, from any device
  Buffer to_host() const;                     // the same if it is there, else a copy

 private:
  struct Tensor {
    void* data = nullptr;
    DType dtype = DType::kFloat32;
    std::vector<std::int64_t> shape;
    std::shared_ptr<void> owner;
    const Memory* memory = nullptr;
  };

  std::shared_ptr<const Tensor> tensor_;  // one pointer, so that copies allocate nothing
};

std::string shape_text(const std::vector<std::int64_t>& shape);  // "[1, 3, 224, 224]"

}  // namespace npu
