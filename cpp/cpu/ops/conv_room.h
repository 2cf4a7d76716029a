// The input of a convolution in a room of its own: float32, with zeros for the border, so that every tap of
// every output pixel is there.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/machine/thread_pool.h"
#include "cpu/ops/conv_operands.h"

namespace npu::cpu {

class ConvRoom {
 public:
  // `planar`: the channels lie apart; otherwise those of a pixel follow each other. Of two spatial
  // dimensions.
  ConvRoom(const ConvGeometry& g, DType dtype, bool planar) : g_(g), dtype_(dtype), planar_(planar) {
    pixel_step_ = planar ? 1 : g.in_channels;
    rows_ = reach(1);
    columns_ = reach(2);
    row_step_ = columns_ * pixel_step_;
    plane_step_ = planar ? rows_ * row_step_ : 0;
    batch_step_ = rows_ * row_step_ * (planar ? g.in_channels : 1);
    images_ = std::clamp<std::int64_t>(kFloats / std::max<std::int64_t>(batch_step_, 1), 1,
                                       std::max<std::int64_t>(g.batch, 1));
  }

  // Whether the input does not lie like this already.
  bool needed() const {
    return g_.low[1] != 0 || g_.low[2] != 0 || rows_ > g_.in[1] || columns_ > g_.in[2] ||
           g_.x_step[2] != pixel_step_ || (!planar_ && g_.x_channel != 1) || dtype_ != DType::kFloat32;
  }

  std::int64_t rows() const { return rows_; }
  std::int64_t columns() const { return columns_; }
  std::int64_t pixel_step() const { return pixel_step_; }
  std::int64_t row_step() const { return row_step_; }
  std::int64_t plane_step() const { return plane_step_; }
  std::int64_t batch_step() const { return batch_step_; }
  std::int64_t images() const { return images_; }  // that it holds at a time
  std::size_t bytes() const { return sizeof(float) * static_cast<std::size_t>(images_ * batch_step_); }

  // Images from x on, by `pieces` tasks, or fewer.
  void fill(const std::byte* x, std::int64_t images, float* room, std::int64_t pieces,
            ThreadPool& pool) const;

 private:
  // Of padded images at a time, unless one needs more: 2 MB, as a second-level cache.
  static constexpr std::int64_t kFloats = 1 << 19;

  // What output pixels reach along a dimension, border included.
  std::int64_t reach(std::size_t d) const {
    return (g_.out[d] - 1) * g_.stride[d] + (g_.kernel[d] - 1) * g_.dilation[d] + 1;
  }
  void fill_row(const std::byte* image, std::int64_t h, float* to) const;

  const ConvGeometry& g_;
  DType dtype_;
  bool planar_;
  std::int64_t pixel_step_, rows_, columns_, row_step_, plane_step_, batch_step_, images_;
};

}  // namespace npu::cpu
