// Patches of the input as rows of a matrix, filters as its right-hand side.
#pragma once

#include <algorithm>
#include <cstring>
#include <limits>

#include "core/geometry/conv.h"
#include "cpu/gemm.h"

namespace npu::cpu {

// memcpy without its call: the runs of a first convolution are short. Whole vectors, the last one
// overlapping.
inline void copy_floats(const float* from, float* to, std::int64_t n) {
  constexpr std::int64_t kChunk = 16, kLong = 256;
  if (n > kLong || n < 4) {
    std::copy_n(from, n, to);
  } else if (n < kChunk) {
    for (std::int64_t i = 0; i + 4 <= n; i += 4) std::memcpy(to + i, from + i, 16);
    std::memcpy(to + n - 4, from + n - 4, 16);
  } else {
    for (std::int64_t i = 0; i + kChunk <= n; i += kChunk) std::memcpy(to + i, from + i, 64);
    std::memcpy(to + n - kChunk, from + n - kChunk, 64);
  }
}

// One group's product: rows are output pixels, depth runs over (kd, kh, kw, channel).
class ConvOperands final : public GemmOperands {
 public:
  ConvOperands(const ConvGeometry& g, const KernelRequest& r, const Epilogue& epilogue, std::int64_t group,
               const void* x, const void* w, bool pairs)
      : g_(g),
        w_dtype_(r.inputs[1].dtype),
        epilogue_(epilogue),
        group_(group),
        dtype_(r.inputs[0].dtype),
        x_(x),
        w_(w),
        runs_(g.x_channel == 1 && g.groups == 1 && g.dilation[2] == 1 && g.up[2] == 1 &&
              g.x_step[2] == g.in_channels),
        pairs_(pairs),
        pixel_step_(pixel_step(g, dtype_, pairs)) {}

  void pack_rows(std::int64_t row, std::int64_t count, std::int64_t k, std::int64_t length,
                 float* to) const override {
    Pixel pixel(g_, row);
    for (std::int64_t i = 0; i < count; ++i, pixel.next(g_), to += kPackedStride) {
      if (pairs_) {
        pack_pairs(pixel, k, length, reinterpret_cast<std::uint16_t*>(to));
      } else if (runs_) {
        pack_runs(pixel, k, length, to);
      } else {
        pack_taps(pixel, k, length, to);
      }
    }
  }

  const float* rows_in_place(std::int64_t row, std::int64_t, std::int64_t* stride) const override {
    if (pixel_step_ == 0) return nullptr;
    *stride = pairs_ ? pixel_step_ / 2 : pixel_step_;
    const std::int64_t at = group_ * g_.group_in() + row * pixel_step_;
    return reinterpret_cast<const float*>(element(x_, dtype_, at));
  }

  void pack_panel(std::int64_t column, std::int64_t count, std::int64_t k, std::int64_t length, int nr,
                  float* to) const override {
    for (std::int64_t i = 0; i < length; ++i, to += nr) {
      if (pairs_) {
        pack_pair_row(column, count, 2 * (k + i), to);
      } else {
        load_row(w_dtype_, element(w_, w_dtype_, weight_at(column, k + i)), g_.weight_column, to, count);
      }
      std::memset(to + count, 0, sizeof(float) * static_cast<std::size_t>(nr - count));
    }
  }

  void locate(std::int64_t row, std::int64_t* out, std::int64_t* extras) const override {
    const Pixel p(g_, row);
    const std::int64_t channel = group_ * g_.group_out();
    *out = p.n * g_.out_batch + channel * g_.out_channel + p.d * g_.out_step[0] + p.h * g_.out_step[1] +
           p.w * g_.out_step[2];
    const auto& descs = epilogue_.extras();
    for (std::size_t e = 0; e < descs.size(); ++e) {
      const Shape& s = descs[e].strides;
      const std::size_t rank = s.size();
      std::int64_t at = p.n * s[0] + channel * s[1] + p.w * s[rank - 1];
      if (rank > 3) at += p.h * s[rank - 2];
      if (rank > 4) at += p.d * s[rank - 3];
      extras[e] = at;
    }
  }

  void locate_rows(std::int64_t row, std::int64_t count, int extra, std::int64_t* out,
                   std::int64_t* extra_at) const override {
    const std::int64_t channel = group_ * g_.group_out();
    const Shape* const s =
        extra >= 0 ? &epilogue_.extras()[static_cast<std::size_t>(extra)].strides : nullptr;
    const std::size_t rank = s ? s->size() : 0;
    const std::int64_t steps[3] = {rank > 4 ? (*s)[rank - 3] : 0, rank > 3 ? (*s)[rank - 2] : 0,
                                   rank > 2 ? (*s)[rank - 1] : 0};
    Pixel p(g_, row);
    for (std::int64_t i = 0; i < count; ++i, p.next(g_)) {
      out[i] = p.n * g_.out_batch + channel * g_.out_channel + p.d * g_.out_step[0] + p.h * g_.out_step[1] +
               p.w * g_.out_step[2];
      extra_at[i] =
          s ? p.n * (*s)[0] + channel * (*s)[1] + p.d * steps[0] + p.h * steps[1] + p.w * steps[2] : 0;
    }
  }

 private:
  // The offset of a weight: output channel `column` of this group, depth `k`.
  std::int64_t weight_at(std::int64_t column, std::int64_t k) const {
    return g_.weight_at(group_ * g_.group_out() + column, k);
  }

  void pack_pair_row(std::int64_t column, std::int64_t count, std::int64_t k, float* to) const {
    const auto* w = static_cast<const std::uint16_t*>(w_);
    const std::int64_t first = weight_at(column, k);
    const bool whole = k + 1 < g_.depth();
    const std::int64_t second = whole ? weight_at(column, k + 1) : first;
    for (std::int64_t j = 0; j < count; ++j) {
      const std::int64_t step = j * g_.weight_column;
      const Bf16Pair pair{w[first + step], whole ? w[second + step] : std::uint16_t{0}};
      std::memcpy(to + j, &pair, sizeof pair);
    }
  }

  // As pack_taps, for bfloat16 that is not converted; `k` and `length` count pairs.
  void pack_pairs(const Pixel& p, std::int64_t k, std::int64_t length, std::uint16_t* to) const {
    const std::int64_t channels = g_.group_in(), begin = 2 * k,
                       end = std::min(begin + 2 * length, g_.depth());
    if (end < begin + 2 * length) to[end - begin] = 0;
    const auto* x = static_cast<const std::uint16_t*>(x_);
    for (std::int64_t at = begin; at < end;) {
      const std::int64_t tap = at / channels, c = at % channels, n = std::min(channels - c, end - at);
      const std::int64_t from = tap_at(p, tap, c);
      if (from == kPadding) {
        std::fill_n(to + (at - begin), n, std::uint16_t{0});
      } else if (g_.x_channel == 1) {
        std::copy_n(x + from, n, to + (at - begin));
      } else {
        for (std::int64_t i = 0; i < n; ++i) to[at - begin + i] = x[from + i * g_.x_channel];
      }
      at += n;
    }
  }

  // The offset of channel `c` under a tap, or kPadding. Views may run backwards.
  std::int64_t tap_at(const Pixel& p, std::int64_t tap, std::int64_t c) const {
    const Triple k = g_.tap(tap);
    const std::int64_t d = g_.source(0, p.d, k[0]), h = g_.source(1, p.h, k[1]), w = g_.source(2, p.w, k[2]);
    if (d < 0 || h < 0 || w < 0) return kPadding;
    return p.n * g_.x_batch + (group_ * g_.group_in() + c) * g_.x_channel + d * g_.x_step[0] +
           h * g_.x_step[1] + w * g_.x_step[2];
  }

  // Taps along the row touch consecutive elements: one copy for all of them.
  void pack_runs(const Pixel& p, std::int64_t k, std::int64_t length, float* to) const {
    const std::int64_t channels = g_.in_channels, row_length = g_.kernel[2] * channels;
    const std::int64_t w0 = p.w * g_.stride[2] - g_.low[2];
    const std::int64_t first = std::max<std::int64_t>(0, -w0) * channels;
    const std::int64_t beyond = std::max(first, std::min(g_.kernel[2], g_.in[2] - w0) * channels);
    const std::int64_t end = k + length;
    std::int64_t line = k / row_length;
    for (std::int64_t at = k; at < end; ++line) {
      const std::int64_t begin = line * row_length, stop = std::min(end, begin + row_length);
      const std::int64_t d = g_.source(0, p.d, line / g_.kernel[1]),
                         h = g_.source(1, p.h, line % g_.kernel[1]);
      const std::int64_t lo = d < 0 || h < 0 ? stop : std::clamp(begin + first, at, stop);
      const std::int64_t hi = d < 0 || h < 0 ? stop : std::clamp(begin + beyond, lo, stop);
      std::fill(to + (at - k), to + (lo - k), 0.0f);
      if (hi > lo) {
        const std::int64_t offset =
            p.n * g_.x_batch + d * g_.x_step[0] + h * g_.x_step[1] + w0 * channels + (lo - begin);
        if (dtype_ == DType::kFloat32) {
          copy_floats(static_cast<const float*>(x_) + offset, to + (lo - k), hi - lo);
        } else {
          load_row(dtype_, element(x_, dtype_, offset), 1, to + (lo - k), hi - lo);
        }
      }
      std::fill(to + (hi - k), to + (stop - k), 0.0f);
      at = stop;
    }
  }

  void pack_taps(const Pixel& p, std::int64_t k, std::int64_t length, float* to) const {
    const std::int64_t channels = g_.group_in(), end = k + length;
    for (std::int64_t at = k; at < end;) {
      const std::int64_t tap = at / channels, c = at % channels, n = std::min(channels - c, end - at);
      const std::int64_t from = tap_at(p, tap, c);
      if (from == kPadding) {
        std::fill_n(to + (at - k), n, 0.0f);
      } else {
        load_row(dtype_, element(x_, dtype_, from), g_.x_channel, to + (at - k), n);
      }
      at += n;
    }
  }

  // The step between pixels that are read as rows where they lie, or 0.
  static std::int64_t pixel_step(const ConvGeometry& g, DType dtype, bool pairs) {
    const std::int64_t step = g.x_channel == 1 ? g.even_pixel_step() : 0;
    if (pairs) return step % 2 != 0 || g.group_in() % 2 != 0 || shares_cache_set(step / 2) ? 0 : step;
    return dtype != DType::kFloat32 || shares_cache_set(step) ? 0 : step;
  }

  static constexpr std::int64_t kPadding = std::numeric_limits<std::int64_t>::min();

  const ConvGeometry& g_;
  DType w_dtype_;
  const Epilogue& epilogue_;
  std::int64_t group_;
  DType dtype_;
  const void* x_;
  const void* w_;
  bool runs_, pairs_;
  std::int64_t pixel_step_;
};

}  // namespace npu::cpu
