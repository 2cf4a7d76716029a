// A tensor of weights, which is in memory or made when it is read.
#pragma once

#include <memory>

#include "npu/buffer.h"
#include "npu/weights.h"

namespace npu {

class WeightTensor {
 public:
  WeightTensor() = default;  // none
  WeightTensor(Buffer buffer) : buffer_(std::move(buffer)) {}
  WeightTensor(std::string name, DType dtype, std::vector<std::int64_t> shape, MakeTensor make);

  explicit operator bool() const noexcept { return buffer_ || recipe_; }
  DType dtype() const noexcept { return recipe_ ? recipe_->dtype : buffer_.dtype(); }
  const std::vector<std::int64_t>& shape() const noexcept {
    return recipe_ ? recipe_->shape : buffer_.shape();
  }
  // Differs from that of all other tensors as long as this one is held, and is the same each time it is made.
  const void* identity() const noexcept { return recipe_ ? recipe_.get() : buffer_.data(); }

  bool is_made() const noexcept { return recipe_ != nullptr; }
  // What is there, or is made now: whoever wants it twice keeps it.
  Buffer get() const;
  const Buffer& buffer() const noexcept { return buffer_; }  // empty if it is made

 private:
  struct Recipe {
    std::string name;
    DType dtype;
    std::vector<std::int64_t> shape;
    MakeTensor make;
  };

  Buffer buffer_;
  std::shared_ptr<const Recipe> recipe_;
};

}  // namespace npu
