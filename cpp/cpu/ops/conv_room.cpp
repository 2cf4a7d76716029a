#include "cpu/ops/conv_room.h"

namespace npu::cpu {

void ConvRoom::fill(const std::byte* x, std::int64_t images, float* room, std::int64_t pieces,
                    ThreadPool& pool) const {
  const std::int64_t planes = planar_ ? g_.in_channels : 1, rows = images * planes * rows_;
  pieces = std::min(rows, pieces);
  pool.run(pieces, [&](std::int64_t piece, int) {
    const Range range = split(rows, pieces, piece);
    for (std::int64_t row = range.begin; row < range.end; ++row) {
      const std::int64_t n = row / rows_ / planes, plane = row / rows_ % planes;
      const std::int64_t image = n * g_.x_batch + plane * g_.x_channel;
      fill_row(element(x, dtype_, image), row % rows_ - g_.low[1], room + row * row_step_);
    }
  });
}

// Row `h` of an image or of one of its planes.
void ConvRoom::fill_row(const std::byte* image, std::int64_t h, float* to) const {
  const bool inside = h >= 0 && h < g_.in[1];
  const std::int64_t first = inside ? std::clamp<std::int64_t>(g_.low[2], 0, columns_) : columns_;
  const std::int64_t end =
      inside ? std::clamp<std::int64_t>(g_.low[2] + g_.in[2], first, columns_) : columns_;
  const std::int64_t at = h * g_.x_step[1] + (first - g_.low[2]) * g_.x_step[2], step = g_.x_step[2];
  std::fill_n(to, first * pixel_step_, 0.0f);
  float* const pixels = to + first * pixel_step_;
  if (end > first) {
    const std::byte* const from = element(image, dtype_, at);
    if (planar_ || step == pixel_step_) {
      load_row(dtype_, from, planar_ ? step : 1, pixels, (end - first) * pixel_step_);
    } else {
      for (std::int64_t w = 0; w < end - first; ++w) {
        load_row(dtype_, element(from, dtype_, w * step), 1, pixels + w * pixel_step_, pixel_step_);
      }
    }
  }
  std::fill_n(to + end * pixel_step_, (columns_ - end) * pixel_step_, 0.0f);
}

}  // namespace npu::cpu
