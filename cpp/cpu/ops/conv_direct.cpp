// Convolutions whose patches are read where they lie: under one tap, the pixels of an output row are evenly
// spaced in the input. Only the border is new, so the input is copied once into a padded room, not once for
// each tap. A room of few channels, as those of an image, is planar: taps of a row follow each other in each
// channel. Pairs of bfloat16 that the hardware multiplies are words of float32's size, half as many as
// channels.
#include "cpu/ops/conv.h"
#include "cpu/ops/conv_room.h"

namespace npu::cpu {

namespace {

// Output rows that share a panel while it is in cache. 7 to 28 are level for 3x3, 64 channels of 56x56.
constexpr std::int64_t kLines = 14;
constexpr std::int64_t kFewestPixels = 8;  // in a row: 3x3, 64 channels, 14x14 takes 77 us; gathered 81
constexpr std::int64_t kShortest = 16;     // segment, in floats: a vector of AVX-512
constexpr std::int64_t kMostPlanes = 4;    // channels that are kept apart
constexpr std::int64_t kLongestSum = 384;  // products added in float32 in one go, for accuracy
constexpr int kMostRows = 16;              // of a tile, of any instruction set
constexpr double kFewFlops = 200e3;        // a few microseconds: not worth waking threads

class DirectConv final : public ConvBase {
 public:
  explicit DirectConv(const KernelRequest& r)
      : ConvBase(r),
        pairs_(has_pairs(g_, r)),
        planar_(is_planar(g_)),
        w_(pairs_ ? in_pairs(g_) : g_),
        dtype_(pairs_ ? DType::kFloat32 : r.inputs[0].dtype),
        room_(w_, dtype_, planar_),
        copies_(room_.needed()) {
    const std::int64_t pixel_step = room_.pixel_step();
    row_step_ = copies_ ? room_.row_step() : w_.x_step[1];
    batch_step_ = copies_ ? room_.batch_step() : w_.x_batch;
    const std::int64_t plane_step = copies_ ? room_.plane_step() : w_.x_channel;
    // Neighbouring taps of a row are one segment, unless they are dilated.
    const bool dilated = g_.dilation[2] != 1;
    for (std::int64_t plane = 0; plane < (planar_ ? g_.in_channels : 1); ++plane) {
      for (std::int64_t kh = 0; kh < g_.kernel[1]; ++kh) {
        for (std::int64_t kw = 0; kw < (dilated ? g_.kernel[2] : 1); ++kw) {
          segments_.push_back(plane * plane_step + kh * g_.dilation[1] * row_step_ +
                              kw * g_.dilation[2] * pixel_step);
        }
      }
    }
    shape_ = {g_.pixels(), g_.out_channels, w_.depth()};
    images_ = copies_ ? room_.images() : g_.batch;
    const std::int64_t lines = images_ * g_.out[1];
    pieces_ = flops() < kFewFlops ? 1 : lines >= 16 * threads_ ? 4 * threads_ : threads_;
  }

  static bool fits(const KernelRequest& r) {
    const ConvGeometry g = geometry_of(r);
    const Epilogue epilogue(std::get<ConvAttrs>(r.op.attrs).epilogue, {r.inputs.begin() + 3, r.inputs.end()},
                            r.outputs[0], 1);
    const bool plain = g.groups == 1 && g.kernel[0] == 1 && g.in[0] == 1 && g.low[0] == 0 && !g.spreads();
    const bool tiles = epilogue.in_tile() || epilogue.after_tile();
    const ConvGeometry w = has_pairs(g, r) ? in_pairs(g) : g;
    const bool segments = is_planar(g) || (g.x_channel == 1 && segment_length(w) >= kShortest &&
                                           !shares_cache_set(g.stride[2] * w.in_channels));
    return plain && r.inputs[1].constant && g.taps() > 1 && tiles && segments && g.out[2] >= kFewestPixels &&
           g.pixels() > 0;
  }

  static bool is_planar(const ConvGeometry& g) { return g.in_channels <= kMostPlanes; }

  std::string name() const override {
    return std::string(planar_  ? "conv[direct planes "
                       : pairs_ ? "conv[direct pairs "
                                : "conv[direct ") +
           micro_->name + "]";
  }
  std::size_t scratch_bytes() const override { return copies_ ? room_.bytes() : 0; }
  int packed_input() const override { return 1; }
  std::size_t packed_bytes() const override { return shape_.packed_floats(*micro_) * sizeof(float); }
  std::string packing() const override {
    return std::string(planar_  ? "conv planes panels "
                       : pairs_ ? "conv whole pairs "
                                : "conv whole panels ") +
           std::to_string(micro_->nr) + " of" + weight_text(inputs_[1]);
  }
  // [panel][segment][k of a segment][output channel of the panel]
  void pack(const void* raw, std::byte* packed, ThreadPool& pool) const override {
    const DType dtype = inputs_[1].dtype;
    const std::int64_t nr = micro_->nr;
    pool.run(shape_.panels(*micro_), [&](std::int64_t p, int) {
      const std::int64_t column = p * nr, count = std::min(nr, shape_.columns - column);
      float* to = reinterpret_cast<float*>(packed) + column * shape_.depth;
      if (pairs_) {
        const ConvOperands operands(g_, request_, epilogue_, 0, nullptr, raw, true);
        return operands.pack_panel(column, count, 0, shape_.depth, micro_->nr, to);
      }
      for (std::int64_t k = 0; k < shape_.depth; ++k, to += nr) {
        const std::int64_t at = planar_ ? k % g_.taps() * g_.in_channels + k / g_.taps() : k;
        load_row(dtype, element(raw, dtype, g_.weight_at(column, at)), g_.weight_column, to, count);
        std::fill(to + count, to + nr, 0.0f);
      }
    });
  }

  void run(const KernelArgs& args, ThreadPool& pool) const override {
    float* const room = reinterpret_cast<float*>(args.scratch);
    for (std::int64_t first = 0; first < g_.batch; first += images_) {
      const std::int64_t images = std::min(images_, g_.batch - first);
      const std::byte* const x = element(args.inputs[0], dtype_, first * w_.x_batch);
      if (copies_) room_.fill(x, images, room, pieces_ == 1 ? 1 : 4 * threads_, pool);
      run_images(args, copies_ ? room : reinterpret_cast<const float*>(x), first, images, pool);
    }
  }

 private:
  static bool has_pairs(const ConvGeometry& g, const KernelRequest& r) {
    const auto even = [](std::int64_t step) { return step % 2 == 0; };
    return multiplies_pairs(micro(), r.inputs[0].dtype, r.inputs[1].dtype) && !is_planar(g) &&
           g.x_channel == 1 && even(g.in_channels) && even(g.x_batch) && even(g.x_step[1]) &&
           even(g.x_step[2]);
  }
  static ConvGeometry in_pairs(ConvGeometry g) {
    g.in_channels /= 2;
    g.x_batch /= 2;
    for (std::int64_t& step : g.x_step) step /= 2;
    return g;
  }

  static std::int64_t segment_length(const ConvGeometry& g) {
    return (g.dilation[2] == 1 ? g.kernel[2] : 1) * (is_planar(g) ? 1 : g.in_channels);
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

  // One panel of output channels for some output rows, counted from those of image `first`, which is at x.
  void panel(const KernelArgs& args, const float* x, std::int64_t first, Range lines, std::int64_t p) const {
    const std::int64_t column = p * micro_->nr, depth = shape_.depth;
    const auto count = static_cast<int>(std::min<std::int64_t>(micro_->nr, shape_.columns - column));
    float bias[64];
    GemmTile tile;
    tile.b = reinterpret_cast<const float*>(args.packed) + column * depth;
    tile.k = segment_length(w_);
    tile.a_stride = g_.stride[2] * room_.pixel_step();
    tile.c_stride = g_.out_step[2];
    const float* bias_row = nullptr;
    if (args.inputs[2]) {
      const TensorDesc& b = inputs_[2];
      std::fill_n(bias, 64, 0.0f);
      load_row(b.dtype, element(args.inputs[2], b.dtype, column * b.strides[0]), b.strides[0], bias, count);
      bias_row = bias;
    }
    const int extra = epilogue_.residual();
    const DType extra_dtype = extra >= 0 ? epilogue_.residual_dtype() : DType::kFloat32,
                dtype = outputs_[0].dtype;
    const std::byte* const residual =
        extra >= 0 ? element(args.inputs[3 + extra], extra_dtype, column) : nullptr;
    float sums[kMostRows * 64];
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
        std::byte* const out =
            element(args.outputs[0], dtype, at[0] + pixels.begin * g_.out_step[2] + column);
        const std::int64_t step = extra_at[1] - extra_at[0];
        const std::byte* const added =
            residual ? element(residual, extra_dtype, extra_at[0] + pixels.begin * step) : nullptr;
        tile.next = fetched < depth * micro_->nr ? next + fetched : nullptr;
        fetched += depth * 16;
        const auto rows = static_cast<int>(pixels.end - pixels.begin);
        if (epilogue_.after_tile()) {
          tile.c = sums;
          tile.c_stride = micro_->nr;
          run_tile(tile, rows, count, bias_row);
          epilogue_.finish_tile(
              {sums, micro_->nr, rows, count, added, step, out, g_.out_step[2], args.inputs + 3});
        } else {
          tile.c = reinterpret_cast<float*>(out);
          tile.residual = reinterpret_cast<const float*>(added);
          tile.residual_stride = step;
          run_tile(tile, rows, count, bias_row);
          epilogue_.apply_function(tile.c, tile.c_stride, rows, count, args.inputs + 3);
        }
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
      if (last && epilogue_.in_tile()) tile.limits = epilogue_.limits();
      (pairs_ ? micro_->gemm_bf16 : micro_->gemm_f32)(rows, columns, tile);
      tile.b = static_cast<const float*>(tile.b) + count * tile.k * micro_->nr;
      if (tile.next) tile.next += count * tile.k * 16;
    }
  }

  bool pairs_, planar_;
  ConvGeometry w_;  // in words
  DType dtype_;     // of words
  ConvRoom room_;
  bool copies_;
  std::int64_t row_step_ = 0, batch_step_ = 0, images_ = 1, pieces_ = 1;
  std::vector<std::int64_t> segments_;
  GemmShape shape_;
};

}  // namespace

bool is_direct(const KernelRequest& request) { return DirectConv::fits(request); }
bool is_direct_of_planes(const KernelRequest& request) {
  return DirectConv::fits(request) && DirectConv::is_planar(geometry_of(request));
}
KernelPtr make_direct_conv(const KernelRequest& request) { return std::make_unique<DirectConv>(request); }

}  // namespace npu::cpu
