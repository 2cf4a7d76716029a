// Which input elements and weights a convolution's results are made of.
#pragma once

#include <string>

#include "core/geometry/image.h"

namespace npu {

// Everything in three spatial dimensions; missing ones lead, with extent 1.
struct ConvGeometry {
  std::int64_t batch = 1, in_channels = 1, out_channels = 1, groups = 1;
  Triple in{1, 1, 1}, out{1, 1, 1}, kernel{1, 1, 1}, stride{1, 1, 1}, low{0, 0, 0}, dilation{1, 1, 1},
      up{1, 1, 1};  // low: padding; up: dilation of the input
  std::int64_t x_batch = 0, x_channel = 0, out_batch = 0, out_channel = 0, weight_column = 0,
               weight_channel = 0;  // steps
  Triple x_step{0, 0, 0}, out_step{0, 0, 0}, weight_step{0, 0, 0};

  std::int64_t taps() const { return kernel[0] * kernel[1] * kernel[2]; }
  std::int64_t pixels() const { return batch * out[0] * out[1] * out[2]; }
  std::int64_t group_in() const { return in_channels / groups; }
  std::int64_t group_out() const { return out_channels / groups; }
  std::int64_t depth() const { return taps() * group_in(); }  // products of a result
  bool depthwise() const { return groups > 1 && group_in() == 1 && group_out() == 1; }
  bool spreads() const { return up != Triple{1, 1, 1}; }  // there are gaps between the input's elements

  Triple tap(std::int64_t index) const {
    return {index / (kernel[2] * kernel[1]), index / kernel[2] % kernel[1], index % kernel[2]};
  }

  // The offset of a weight: output channel `column` of all groups; depth `k` goes over taps, and over the
  // channels of a group under each.
  std::int64_t weight_at(std::int64_t column, std::int64_t k) const {
    const Triple at = tap(k / group_in());
    return column * weight_column + k % group_in() * weight_channel + at[0] * weight_step[0] +
           at[1] * weight_step[1] + at[2] * weight_step[2];
  }

  // The input coordinate under tap `k` of an output coordinate, or -1 in padding and between dilated
  // elements.
  std::int64_t source(std::size_t dim, std::int64_t position, std::int64_t k) const {
    const std::int64_t at = position * stride[dim] - low[dim] + k * dilation[dim];
    if (at < 0) return -1;
    if (up[dim] == 1) return at < in[dim] ? at : -1;
    return at % up[dim] == 0 && at / up[dim] < in[dim] ? at / up[dim] : -1;
  }

  // Where each output pixel reads one input pixel, and all of these are evenly spaced: how far. Else 0.
  std::int64_t even_pixel_step() const;
};

ConvGeometry conv_geometry(const ConvAttrs& attrs, const TensorDesc& x, const TensorDesc& weight,
                           const TensorDesc& out);

// Shape and strides of weights, for the names of packed forms.
std::string weight_text(const TensorDesc& weight);

// Walks output pixels in order without dividing each time.
struct Pixel {
  std::int64_t n, d, h, w;
  Pixel(const ConvGeometry& g, std::int64_t index) {
    w = index % g.out[2];
    index /= g.out[2];
    h = index % g.out[1];
    index /= g.out[1];
    d = index % g.out[0];
    n = index / g.out[0];
  }
  void next(const ConvGeometry& g) {
    if (++w < g.out[2]) return;
    w = 0;
    if (++h < g.out[1]) return;
    h = 0;
    if (++d < g.out[0]) return;
    d = 0;
    ++n;
  }
};

}  // namespace npu
