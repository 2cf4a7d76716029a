// Which input elements a convolution's output pixel reads.
#pragma once

#include <array>
#include <cstdint>

#include "cpu/gemm.h"

namespace npu::cpu {

using Triple = std::array<std::int64_t, 3>;

// Everything in three spatial dimensions; missing ones lead, with extent 1.
struct Geometry {
  std::int64_t batch = 1, in_channels = 1, out_channels = 1, groups = 1;
  Triple in{1, 1, 1}, out{1, 1, 1}, kernel{1, 1, 1}, stride{1, 1, 1}, low{0, 0, 0}, dilation{1, 1, 1},
      up{1, 1, 1};
  std::int64_t x_batch = 0, x_channel = 0, out_batch = 0, out_channel = 0;
  Triple x_step{0, 0, 0}, out_step{0, 0, 0};
  std::int64_t taps() const { return kernel[0] * kernel[1] * kernel[2]; }
  std::int64_t pixels() const { return batch * out[0] * out[1] * out[2]; }
  std::int64_t group_in() const { return in_channels / groups; }
  std::int64_t group_out() const { return out_channels / groups; }
};

inline Geometry geometry_of(const KernelRequest& r) {
  const auto& attrs = std::get<ConvAttrs>(r.op.attrs);
  const TensorDesc &x = r.inputs[0], &w = r.inputs[1], &out = r.outputs[0];
  Geometry g;
  g.batch = x.shape[0];
  g.in_channels = x.shape[1];
  g.out_channels = w.shape[0];
  g.groups = attrs.groups;
  g.x_batch = x.strides[0];
  g.x_channel = x.strides[1];
  g.out_batch = out.strides[0];
  g.out_channel = out.strides[1];
  const std::size_t spatial = x.shape.size() - 2;
  for (std::size_t i = 0; i < spatial; ++i) {
    const std::size_t to = 3 - spatial + i;
    g.in[to] = x.shape[i + 2];
    g.out[to] = out.shape[i + 2];
    g.kernel[to] = w.shape[i + 2];
    g.stride[to] = attrs.stride[i];
    g.low[to] = attrs.padding_low[i];
    g.dilation[to] = attrs.dilation[i];
    g.up[to] = attrs.input_dilation[i];
    g.x_step[to] = x.strides[i + 2];
    g.out_step[to] = out.strides[i + 2];
  }
  return g;
}

// When each output pixel reads one input pixel and all of these are evenly spaced: how far. Else 0.
inline std::int64_t pixel_step(const Geometry& g) {
  if (g.taps() != 1 || g.x_channel != 1) return 0;
  std::int64_t step = 0, expected = 0;
  const auto continues = [&](std::int64_t extent, std::int64_t stride) {
    if (extent == 1) return true;
    if (step == 0) step = expected = stride;
    if (stride != expected) return false;
    expected *= extent;
    return true;
  };
  for (int d = 2; d >= 0; --d) {
    if (g.in[d] != g.out[d] || g.stride[d] != 1 || g.up[d] != 1 || g.low[d] != 0) return 0;
    if (!continues(g.in[d], g.x_step[d])) return 0;
  }
  return continues(g.batch, g.x_batch) && !shares_cache_set(step) ? step : 0;
}

// Walks output pixels in order without dividing each time.
struct Pixel {
  std::int64_t n, d, h, w;
  Pixel(const Geometry& g, std::int64_t index) {
    w = index % g.out[2];
    index /= g.out[2];
    h = index % g.out[1];
    index /= g.out[1];
    d = index % g.out[0];
    n = index / g.out[0];
  }
  void next(const Geometry& g) {
    if (++w < g.out[2]) return;
    w = 0;
    if (++h < g.out[1]) return;
    h = 0;
    if (++d < g.out[0]) return;
    d = 0;
    ++n;
  }
};

// The input coordinate under tap `k` of an output coordinate, or -1 in padding and between dilated elements.
inline std::int64_t source(const Geometry& g, int dim, std::int64_t out, std::int64_t k) {
  const std::int64_t at = out * g.stride[dim] - g.low[dim] + k * g.dilation[dim];
  if (at < 0) return -1;
  if (g.up[dim] == 1) return at < g.in[dim] ? at : -1;
  return at % g.up[dim] == 0 && at / g.up[dim] < g.in[dim] ? at / g.up[dim] : -1;
}

}  // namespace npu::cpu
