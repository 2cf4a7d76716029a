// Convolutions with few output channels, such as blurs and filters of signals: products of panels would leave
// most of their columns empty. Part of the input is copied into padded planes, one for each channel, and
// neighbouring pixels of an output row are summed together.
#include "cpu/ops/conv.h"
#include "cpu/strided.h"

namespace npu::cpu {

namespace {

constexpr std::int64_t kMostInputs = 128;      // channels; with more, copying into planes is no longer small
constexpr std::int64_t kLongestSum = 128;      // products added in float32 in one go, for accuracy
constexpr std::int64_t kStrip = 2048;          // pixels of a row: sums of 4 channels have 32 KB
constexpr std::int64_t kRoomFloats = 1 << 15;  // of padded planes at a time, unless one row needs more

class PlanarConv final : public ConvBase {
 public:
  explicit PlanarConv(const KernelRequest& r)
      : ConvBase(r),
        rows_epilogue_(std::get<ConvAttrs>(r.op.attrs).epilogue, {r.inputs.begin() + 3, r.inputs.end()},
                       r.outputs[0], static_cast<int>(r.outputs[0].shape.size()) - 1) {
    strip_ = std::min(kStrip, g_.out[2]);
    phase_ = (reach(2, strip_) + g_.stride[2] - 1) / g_.stride[2];
    row_ = phase_ * g_.stride[2];
    const auto floats = [&](std::int64_t lines) {
      return g_.group_in() * g_.kernel[0] * reach(1, lines) * row_;
    };
    band_ = 1;
    while (band_ < g_.out[1] && floats(band_ + 1) <= kRoomFloats) ++band_;
    plane_ = reach(1, band_) * row_;
    bands_ = (g_.out[1] + band_ - 1) / band_;
    strips_ = (g_.out[2] + strip_ - 1) / strip_;
    units_ = g_.batch * g_.out[0] * bands_ * strips_;
    pieces_ =
        piece_count(units_, flops() / static_cast<double>(16 * std::max<std::int64_t>(units_, 1)), threads_);
    make_taps();
    const auto bytes = [](std::int64_t n) { return round_up(static_cast<std::size_t>(n) * sizeof(float)); };
    row_at_ = bytes(floats(band_));
    sums_at_ = row_at_ + bytes(g_.in[2]);
    expression_at_ = sums_at_ + bytes(kPlanarChannels * strip_);
    per_thread_ = round_up(expression_at_ + rows_epilogue_.scratch_bytes());
  }

  static bool fits(const KernelRequest& r) {
    const ConvGeometry g = geometry_of(r);
    const std::int64_t lanes = micro().lanes;
    return g.group_out() <= std::max<std::int64_t>(lanes / 2, kPlanarChannels) &&
           g.group_in() <= kMostInputs && g.taps() > 1 && g.out[2] >= lanes && g.pixels() > 0;
  }

  std::string name() const override {
    return std::string("conv[planar ") + micro_->name +
           (rows_epilogue_.in_tile() || rows_epilogue_.after_tile() ? "]" : " +map]");
  }
  std::size_t scratch_bytes() const override {
    return per_thread_ * static_cast<std::size_t>(threads_) + (inputs_[1].constant ? 0 : weight_bytes());
  }
  int packed_input() const override { return inputs_[1].constant ? 1 : -1; }
  std::size_t packed_bytes() const override { return inputs_[1].constant ? weight_bytes() : 0; }
  std::string packing() const override { return "conv planar of" + weight_text(inputs_[1]); }
  void pack(const void* raw, std::byte* packed, ThreadPool&) const override {
    float* to = reinterpret_cast<float*>(packed);
    for (std::int64_t c = 0, count = 0; c < g_.out_channels; c += count) {
      count = block_at(c);
      for (std::int64_t k = 0; k < g_.depth(); ++k, to += count) {
        load_row(inputs_[1].dtype, element(raw, inputs_[1].dtype, g_.weight_at(c, k)), g_.weight_column, to,
                 count);
      }
    }
  }

  void run(const KernelArgs& args, ThreadPool& pool) const override {
    const std::byte* weights = args.packed;
    if (!inputs_[1].constant) {
      std::byte* const own = args.scratch + per_thread_ * static_cast<std::size_t>(threads_);
      pack(args.inputs[1], own, pool);
      weights = own;
    }
    pool.run(pieces_, [&](std::int64_t piece, int thread) {
      const Range range = split(units_, pieces_, piece);
      std::byte* const scratch = args.scratch + per_thread_ * static_cast<std::size_t>(thread);
      for (std::int64_t u = range.begin; u < range.end; ++u) {
        run_unit(args, u, reinterpret_cast<const float*>(weights), scratch);
      }
    });
  }

 private:
  // Of an output row of one image: channels [first, first + count), pixels [w, w + n).
  struct Line {
    std::int64_t n, d, h, w, pixels;
  };

  // What `count` output positions reach, border included.
  std::int64_t reach(std::size_t d, std::int64_t count) const {
    return (count - 1) * g_.stride[d] + (g_.kernel[d] - 1) * g_.dilation[d] + 1;
  }
  std::size_t weight_bytes() const {
    return round_up(static_cast<std::size_t>(g_.out_channels * g_.depth()) * sizeof(float));
  }

  // Rows of the planes are cut into as many parts as pixels are apart, so that neighbours stay neighbours.
  std::int64_t in_row(std::int64_t position) const {
    return position % g_.stride[2] * phase_ + position / g_.stride[2];
  }

  void make_taps() {
    for (std::int64_t k = 0; k < g_.depth(); ++k) {
      const Triple tap = g_.tap(k / g_.group_in());
      const std::int64_t plane = k % g_.group_in() * g_.kernel[0] + tap[0];
      taps_.push_back(plane * plane_ + tap[1] * g_.dilation[1] * row_ + in_row(tap[2] * g_.dilation[2]));
    }
  }

  void run_unit(const KernelArgs& args, std::int64_t unit, const float* weights, std::byte* scratch) const {
    Line line{};
    line.w = unit % strips_ * strip_;
    line.pixels = std::min(strip_, g_.out[2] - line.w);
    unit /= strips_;
    const std::int64_t first = unit % bands_ * band_, end = std::min(first + band_, g_.out[1]);
    unit /= bands_;
    line.d = unit % g_.out[0];
    line.n = unit / g_.out[0];
    for (std::int64_t group = 0; group < g_.groups; ++group) {
      line.h = first;
      fill_planes(args.inputs[0], line, group * g_.group_in(), end - first, scratch);
      for (; line.h < end; ++line.h) {
        const float* const x =
            reinterpret_cast<const float*>(scratch) + (line.h - first) * g_.stride[1] * row_;
        const std::int64_t stop = (group + 1) * g_.group_out();
        for (std::int64_t c = group * g_.group_out(); c < stop; c += block_at(c)) {
          run_line(args, line, c, x, weights + c * g_.depth(), scratch);
        }
      }
    }
  }

  // Output channels of one group that are summed together, from `channel` on.
  std::int64_t block_at(std::int64_t channel) const {
    return std::min<std::int64_t>(kPlanarChannels, g_.group_out() - channel % g_.group_out());
  }

  void fill_planes(const void* x, const Line& line, std::int64_t channel, std::int64_t lines,
                   std::byte* scratch) const {
    const DType dtype = inputs_[0].dtype;
    float* const planes = reinterpret_cast<float*>(scratch);
    for (std::int64_t c = 0; c < g_.group_in(); ++c) {
      for (std::int64_t kd = 0; kd < g_.kernel[0]; ++kd) {
        const std::int64_t d = g_.source(0, line.d, kd);
        float* to = planes + (c * g_.kernel[0] + kd) * plane_;
        for (std::int64_t r = 0; r < reach(1, lines); ++r, to += row_) {
          const std::int64_t at = line.h * g_.stride[1] - g_.low[1] + r;
          const bool inside = d >= 0 && at >= 0 && at % g_.up[1] == 0 && at / g_.up[1] < g_.in[1];
          const std::int64_t from = line.n * g_.x_batch + (channel + c) * g_.x_channel + d * g_.x_step[0] +
                                    at / g_.up[1] * g_.x_step[1];
          if (inside) {
            fill_row(element(x, dtype, from), line, to, reinterpret_cast<float*>(scratch + row_at_));
          } else {
            std::fill_n(to, row_, 0.0f);
          }
        }
      }
    }
  }

  // The part of an input row that the pixels of a line see.
  void fill_row(const std::byte* x, const Line& line, float* to, float* buffer) const {
    const std::int64_t start = line.w * g_.stride[2] - g_.low[2], up = g_.up[2];
    const auto first_at = [&](std::int64_t position) {  // the first element at or after it
      return std::clamp<std::int64_t>((position + up - 1) / up, 0, g_.in[2]);
    };
    const std::int64_t first = start <= 0 ? 0 : first_at(start);
    const std::int64_t stop = start + reach(2, line.pixels);
    const std::int64_t end = stop <= 0 ? first : std::max(first, first_at(stop));
    const std::byte* const from = element(x, inputs_[0].dtype, first * g_.x_step[2]);
    const std::int64_t begin = first * up - start;  // in the planes' row
    if (up == 1 && g_.stride[2] == 1) {
      std::fill_n(to, std::min(begin, row_), 0.0f);
      if (end > first) load_row(inputs_[0].dtype, from, g_.x_step[2], to + begin, end - first);
      const std::int64_t filled = std::min(row_, begin + (end - first));
      std::fill_n(to + filled, row_ - filled, 0.0f);
      return;
    }
    std::fill_n(to, row_, 0.0f);
    if (end == first) return;
    load_row(inputs_[0].dtype, from, g_.x_step[2], buffer, end - first);
    if (up > 1) {
      for (std::int64_t i = 0; i < end - first; ++i) to[in_row(begin + i * up)] = buffer[i];
      return;
    }
    const std::int64_t stride = g_.stride[2];
    for (std::int64_t i = 0; i < std::min(stride, end - first); ++i) {
      float* part = to + in_row(begin + i);
      for (std::int64_t j = i; j < end - first; j += stride) *part++ = buffer[j];
    }
  }

  void run_line(const KernelArgs& args, const Line& line, std::int64_t channel, const float* x,
                const float* w, std::byte* scratch) const {
    const std::int64_t at =
        line.n * g_.out_batch + line.d * g_.out_step[0] + line.h * g_.out_step[1] + line.w * g_.out_step[2];
    PlanarRows rows;
    rows.channels = static_cast<int>(block_at(channel));
    rows.n = line.pixels;
    // A residual may lie where the results go, and is read after the sums are made.
    const bool direct = rows_epilogue_.in_tile() && rows_epilogue_.residual() < 0;
    rows.y = direct ? static_cast<float*>(args.outputs[0]) + at + channel * g_.out_channel
                    : reinterpret_cast<float*>(scratch + sums_at_);
    rows.y_stride = direct ? g_.out_channel : strip_;
    for (int c = 0; c < rows.channels; ++c) {
      float bias = 0;
      if (args.inputs[2]) {
        const TensorDesc& b = inputs_[2];
        load_row(b.dtype, element(args.inputs[2], b.dtype, (channel + c) * b.strides[0]), 1, &bias, 1);
      }
      std::fill_n(rows.y + c * rows.y_stride, rows.n, bias);
    }
    for (std::int64_t first = 0; first < g_.depth(); first += kLongestSum) {
      rows.x = x;
      rows.at = taps_.data() + first;
      rows.w = w + first * rows.channels;
      rows.taps = std::min(kLongestSum, g_.depth() - first);
      micro_->planar_rows(rows);
    }
    for (int c = 0; c < rows.channels; ++c) {
      finish(args, line, channel + c, rows.y + c * rows.y_stride, at + (channel + c) * g_.out_channel,
             scratch + expression_at_);
    }
  }

  void finish(const KernelArgs& args, const Line& line, std::int64_t channel, float* sums, std::int64_t out,
              std::byte* scratch) const {
    const auto& extras = rows_epilogue_.extras();
    const void* at[kMaxExtras];
    for (std::size_t e = 0; e < extras.size(); ++e) {
      const Shape& s = extras[e].strides;
      const std::size_t rank = s.size();
      std::int64_t offset = line.n * s[0] + channel * s[1] + line.w * s[rank - 1];
      if (rank > 3) offset += line.h * s[rank - 2];
      if (rank > 4) offset += line.d * s[rank - 3];
      at[e] = element(args.inputs[3 + e], extras[e].dtype, offset);
    }
    if (!rows_epilogue_.in_tile()) {
      return rows_epilogue_.run(sums, 0, line.pixels, at, element(args.outputs[0], outputs_[0].dtype, out),
                                scratch);
    }
    const int residual = rows_epilogue_.residual();
    auto* const y = static_cast<float*>(args.outputs[0]) + out;
    if (residual >= 0)
      micro_->binary(ExprOp::kAdd, sums, static_cast<const float*>(at[residual]), y, line.pixels);
    rows_epilogue_.apply_limits(y, line.pixels);
    rows_epilogue_.apply_function(y, line.pixels, 1, line.pixels, at);
  }

  Epilogue rows_epilogue_;  // of rows of pixels
  std::int64_t strip_ = 1, band_ = 1, strips_ = 1, bands_ = 1, units_ = 0, pieces_ = 0;
  std::int64_t phase_ = 1, row_ = 1, plane_ = 1;  // floats of a part of a row, a row, a plane
  std::vector<std::int64_t> taps_;                // where each product's input lies in the planes
  std::size_t row_at_ = 0, sums_at_ = 0, expression_at_ = 0, per_thread_ = 0;  // in a thread's scratch
};

}  // namespace

bool is_planar(const KernelRequest& request) { return PlanarConv::fits(request); }
KernelPtr make_planar_conv(const KernelRequest& request) { return std::make_unique<PlanarConv>(request); }

}  // namespace npu::cpu
