// Convolutions whose patches are read where they lie: under one tap, the pixels of an output row are evenly
// spaced in the input. Only the border is new, so the input is copied once into a padded room, not once for
// each tap. A room of few channels, as those of an image, is planar: taps of a row follow each other in each
// channel.
#include "cpu/ops/conv.h"

namespace npu::cpu {

namespace {

// Output rows that share a panel while it is in cache. 7 to 28 are level for 3x3, 64 channels of 56x56.
constexpr std::int64_t kLines = 14;
constexpr std::int64_t kFewestPixels = 8;  // in a row: 3x3, 64 channels, 14x14 takes 77 us; gathered 81
constexpr std::int64_t kShortest = 16;     // segment, in floats: a vector of AVX-512
constexpr std::int64_t kMostPlanes = 4;    // channels that are kept apart
constexpr std::int64_t kLongestSum = 640;  // products added in float32 in one go, for accuracy
constexpr double kFewFlops = 200e3;        // a few microseconds: not worth waking threads
// Of padded images at a time, unless one needs more: 2 MB, as a second-level cache.
constexpr std::int64_t kRoomFloats = 1 << 19;

class DirectConv final : public ConvBase {
 public:
  explicit DirectConv(const KernelRequest& r) : ConvBase(r), room_(padded(g_)), planar_(is_planar(g_)) {
    copies_ = needs_copy(r, g_);
    pixel_step_ = planar_ ? 1 : g_.in_channels;
    row_step_ = copies_ ? room_[1] * pixel_step_ : g_.x_step[1];
    plane_step_ = !planar_ ? 0 : copies_ ? room_[0] * row_step_ : g_.x_channel;
    batch_step_ = !copies_ ? g_.x_batch : room_[0] * row_step_ * (planar_ ? g_.in_channels : 1);
    // Neighbouring taps of a row are one segment, unless they are dilated.
    const bool dilated = g_.dilation[2] != 1;
    for (std::int64_t plane = 0; plane < (planar_ ? g_.in_channels : 1); ++plane) {
      for (std::int64_t kh = 0; kh < g_.kernel[1]; ++kh) {
        for (std::int64_t kw = 0; kw < (dilated ? g_.kernel[2] : 1); ++kw) {
          segments_.push_back(plane * plane_step_ + kh * g_.dilation[1] * row_step_ +
                              kw * g_.dilation[2] * pixel_step_);
        }
      }
    }
    shape_ = {g_.pixels(), g_.out_channels, g_.depth()};
    images_ = copies_ ? std::clamp<std::int64_t>(kRoomFloats / batch_step_, 1, g_.batch) : g_.batch;
    const std::int64_t lines = images_ * g_.out[1];
    pieces_ = flops() < kFewFlops ? 1 : lines >= 16 * threads_ ? 4 * threads_ : threads_;
  }

  static bool fits(const KernelRequest& r) {
    const ConvGeometry g = geometry_of(r);
    const Epilogue epilogue(std::get<ConvAttrs>(r.op.attrs).epilogue, {r.inputs.begin() + 3, r.inputs.end()},
                            r.outputs[0], 1);
    const bool plain = g.groups == 1 && g.kernel[0] == 1 && g.in[0] == 1 && g.low[0] == 0 && !g.spreads();
    const bool dtypes = r.inputs[0].dtype == DType::kFloat32 && r.inputs[1].dtype == DType::kFloat32;
    const bool segments = is_planar(g) || (dtypes && g.x_channel == 1 && segment_length(g) >= kShortest &&
                                           !shares_cache_set(g.stride[2] * g.in_channels));
    return plain && r.inputs[1].constant && g.taps() > 1 && epilogue.in_tile() && segments &&
           g.out[2] >= kFewestPixels && g.pixels() > 0;
  }
  static bool is_planar(const ConvGeometry& g) { return g.in_channels <= kMostPlanes; }

  std::string name() const override {
    return std::string(planar_ ? "conv[planes " : "conv[direct ") + micro_->name + "]";
  }
  std::size_t scratch_bytes() const override {
    return copies_ ? sizeof(float) * static_cast<std::size_t>(images_ * batch_step_) : 0;
  }
  int packed_input() const override { return 1; }
  std::size_t packed_bytes() const override { return shape_.packed_floats(*micro_) * sizeof(float); }
  std::string packing() const override {
    return std::string(planar_ ? "conv planes panels " : "conv whole panels ") + std::to_string(micro_->nr) +
           " of" + weight_text(inputs_[1]);
  }
  // [panel][segment][k of a segment][output channel of the panel]
  void pack(const void* raw, std::byte* packed, ThreadPool& pool) const override {
    const DType dtype = inputs_[1].dtype;
    const std::int64_t nr = micro_->nr;
    pool.run(shape_.panels(*micro_), [&](std::int64_t p, int) {
      const std::int64_t column = p * nr, count = std::min(nr, shape_.columns - column);
      float* to = reinterpret_cast<float*>(packed) + column * shape_.depth;
      for (std::int64_t k = 0; k < shape_.depth; ++k, to += nr) {
        const std::int64_t at = planar_ ? k % g_.taps() * g_.in_channels + k / g_.taps() : k;
        load_row(dtype, element(raw, dtype, g_.weight_at(column, at)), g_.weight_column, to, count);
        std::fill(to + count, to + nr, 0.0f);
      }
    });
  }

  void run(const KernelArgs& args, ThreadPool& pool) const override {
    const DType dtype = inputs_[0].dtype;
    float* const room = reinterpret_cast<float*>(args.scratch);
    for (std::int64_t first = 0; first < g_.batch; first += images_) {
      const std::int64_t images = std::min(images_, g_.batch - first);
      const std::byte* const x = element(args.inputs[0], dtype, first * g_.x_batch);
      if (copies_) copy_padded(x, images, room, pool);
      run_images(args, copies_ ? room : reinterpret_cast<const float*>(x), first, images, pool);
    }
  }

 private:
  static std::int64_t segment_length(const ConvGeometry& g) {
    return (g.dilation[2] == 1 ? g.kernel[2] : 1) * (is_planar(g) ? 1 : g.in_channels);
  }

  // What output pixels reach, border included: rows and pixels of a row.
  static std::array<std::int64_t, 2> padded(const ConvGeometry& g) {
    const auto reach = [&](std::size_t d) {
      return (g.out[d] - 1) * g.stride[d] + (g.kernel[d] - 1) * g.dilation[d] + 1;
    };
    return {reach(1), reach(2)};
  }

  static bool needs_copy(const KernelRequest& r, const ConvGeometry& g) {
    const auto reach = padded(g);
    return g.low[1] != 0 || g.low[2] != 0 || reach[0] > g.in[1] || reach[1] > g.in[2] ||
           g.x_step[2] != (is_planar(g) ? 1 : g.in_channels) || r.inputs[0].dtype != DType::kFloat32;
  }

  void copy_padded(const std::byte* x, std::int64_t images, float* room, ThreadPool& pool) const {
    const std::int64_t planes = planar_ ? g_.in_channels : 1, rows = images * planes * room_[0];
    const std::int64_t pieces = pieces_ == 1 ? 1 : std::min<std::int64_t>(rows, 4 * threads_);
    pool.run(pieces, [&](std::int64_t piece, int) {
      const Range range = split(rows, pieces, piece);
      for (std::int64_t row = range.begin; row < range.end; ++row) {
        const std::int64_t n = row / room_[0] / planes, plane = row / room_[0] % planes;
        const std::int64_t image = n * g_.x_batch + plane * g_.x_channel;
        copy_row_padded(element(x, inputs_[0].dtype, image), row % room_[0] - g_.low[1],
                        room + row * row_step_);
      }
    });
  }

  void run_images(const KernelArgs& args, const float* x, std::int64_t first, std::int64_t images,
                  ThreadPool& pool) const {
    const std::int64_t lines = images * g_.out[1], pieces = std::min(lines, pieces_);
    pool.run(pieces, [&](std::int64_t piece, int) {
      const Range range = split(lines, pieces, piece);
      for (std::int64_t line = range.begin; line < range.end; line += kLines) {
        for (std::int64_t p = 0; p < shape_.panels(*micro_); ++p) {
          panel(args, x, first, {line, std::min(line + kLines, range.end)}, p);
        }
      }
    });
  }

  // Row `h` of an image or of one of its planes.
  void copy_row_padded(const std::byte* image, std::int64_t h, float* to) const {
    const bool inside = h >= 0 && h < g_.in[1];
    const std::int64_t first = inside ? std::clamp<std::int64_t>(g_.low[2], 0, room_[1]) : room_[1];
    const std::int64_t end =
        inside ? std::clamp<std::int64_t>(g_.low[2] + g_.in[2], first, room_[1]) : room_[1];
    const DType dtype = inputs_[0].dtype;
    const std::int64_t at = h * g_.x_step[1] + (first - g_.low[2]) * g_.x_step[2], step = g_.x_step[2];
    std::fill_n(to, first * pixel_step_, 0.0f);
    float* const pixels = to + first * pixel_step_;
    if (end > first) {
      const std::byte* const from = element(image, dtype, at);
      if (planar_ || step == pixel_step_) {
        load_row(dtype, from, planar_ ? step : 1, pixels, (end - first) * pixel_step_);
      } else {
        for (std::int64_t w = 0; w < end - first; ++w) {
          load_row(dtype, element(from, dtype, w * step), 1, pixels + w * pixel_step_, pixel_step_);
        }
      }
    }
    std::fill_n(to + end * pixel_step_, (room_[1] - end) * pixel_step_, 0.0f);
  }

  // One panel of output channels for some output rows, counted from those of image `first`, which is at x.
  void panel(const KernelArgs& args, const float* x, std::int64_t first, Range lines, std::int64_t p) const {
    const std::int64_t column = p * micro_->nr, depth = shape_.depth;
    const auto count = static_cast<int>(std::min<std::int64_t>(micro_->nr, shape_.columns - column));
    float bias[64];
    GemmTile tile;
    tile.b = reinterpret_cast<const float*>(args.packed) + column * depth;
    tile.k = segment_length(g_);
    tile.a_stride = g_.stride[2] * pixel_step_;
    tile.c_stride = g_.out_step[2];
    const float* bias_row = nullptr;
    if (args.inputs[2]) {
      const TensorDesc& b = inputs_[2];
      std::fill_n(bias, 64, 0.0f);
      load_row(b.dtype, element(args.inputs[2], b.dtype, column * b.strides[0]), b.strides[0], bias, count);
      bias_row = bias;
    }
    const float* const residual =
        epilogue_.residual() >= 0 ? static_cast<const float*>(args.inputs[3 + epilogue_.residual()]) + column
                                  : nullptr;
    const std::int64_t strips = (g_.out[2] + micro_->mr - 1) / micro_->mr;
    const float* const next = static_cast<const float*>(tile.b) + depth * micro_->nr;
    std::int64_t fetched = 0, at[2], extra_at[2];
    const ConvOperands operands(g_, request_, epilogue_, 0, nullptr, nullptr, false);
    for (std::int64_t line = lines.begin; line < lines.end; ++line) {
      operands.locate_rows((first * g_.out[1] + line) * g_.out[2], 2, epilogue_.residual(), at, extra_at);
      const float* const from =
          x + line / g_.out[1] * batch_step_ + line % g_.out[1] * g_.stride[1] * row_step_;
      for (std::int64_t i = 0; i < strips; ++i) {
        const Range pixels = split(g_.out[2], strips, i);
        tile.a = from + pixels.begin * tile.a_stride;
        tile.c = static_cast<float*>(args.outputs[0]) + at[0] + pixels.begin * tile.c_stride + column;
        const std::int64_t step = extra_at[1] - extra_at[0];
        tile.residual = residual ? residual + extra_at[0] + pixels.begin * step : nullptr;
        tile.residual_stride = step;
        tile.next = fetched < depth * micro_->nr ? next + fetched : nullptr;
        fetched += depth * 16;
        run_tile(tile, static_cast<int>(pixels.end - pixels.begin), count, bias_row);
      }
    }
  }

  // Some segments at a time: sums of sums are more exact than one long sum.
  void run_tile(GemmTile tile, int rows, int columns, const float* bias) const {
    const float* const residual = tile.residual;
    const auto segments = static_cast<std::int64_t>(segments_.size());
    const std::int64_t most = std::max<std::int64_t>(1, kLongestSum / tile.k);
    for (std::int64_t first = 0; first < segments; first += most) {
      const std::int64_t count = std::min(most, segments - first);
      const bool last = first + count == segments;
      tile.segments = static_cast<int>(count);
      tile.segment_at = segments_.data() + first;
      tile.accumulate = first > 0;
      tile.bias = last ? bias : nullptr;
      tile.residual = last ? residual : nullptr;
      if (last) tile.limits = epilogue_.limits();
      micro_->gemm_f32(rows, columns, tile);
      tile.b = static_cast<const float*>(tile.b) + count * tile.k * micro_->nr;
      if (tile.next) tile.next += count * tile.k * 16;
    }
    epilogue_.apply_function(tile.c, tile.c_stride, rows, columns);
  }

  std::array<std::int64_t, 2> room_;
  bool planar_ = false, copies_ = false;
  std::int64_t pixel_step_ = 1, row_step_ = 0, plane_step_ = 0, batch_step_ = 0, images_ = 1, pieces_ = 1;
  std::vector<std::int64_t> segments_;
  GemmShape shape_;
};

}  // namespace

bool is_direct(const KernelRequest& request) { return DirectConv::fits(request); }
bool reads_planes(const KernelRequest& request) {
  return DirectConv::fits(request) && DirectConv::is_planar(geometry_of(request));
}
KernelPtr make_direct_conv(const KernelRequest& request) { return std::make_unique<DirectConv>(request); }

}  // namespace npu::cpu
