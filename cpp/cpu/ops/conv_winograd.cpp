// 3x3 convolutions by F(2x2, 3x3): 2x2 output pixels take 16 products of transformed input and weights for
// each pair of channels, not 36. What the transforms add costs accuracy: larger tiles would not keep the rule
// for numbers.
#include <cmath>

#include "cpu/ops/conv.h"
#include "cpu/ops/conv_room.h"

namespace npu::cpu {

namespace {

constexpr std::int64_t kValues = 16;  // of a tile
constexpr std::int64_t kFewestChannels =
    32;  // on either side: with fewer, transforms take longer than what they save
constexpr std::int64_t kFewestTiles = 24;  // rows of the products
constexpr double kLeastGain = 1.5;         // in products, after what tiles compute beyond the border
constexpr std::int64_t kLongestSum = 640;  // products added in float32 in one go, for accuracy
constexpr std::int64_t kRowPadding = 16;   // floats: rows of 4096 bytes would share cache sets
// Of transformed tiles at a time: a quarter of a second-level cache of 1 MB, but enough tiles for each read
// of the weights.
constexpr std::int64_t kBlockFloats = 1 << 16, kBlockTiles = 28;

class WinogradConv final : public ConvBase {
 public:
  explicit WinogradConv(const KernelRequest& r)
      : ConvBase(r), room_(g_, r.inputs[0].dtype, false), copies_(r.inputs[0].dtype != DType::kFloat32) {
    if (copies_) {
      x_ = {room_.batch_step(), room_.row_step(), room_.pixel_step(), room_.rows(), room_.columns(), 0, 0};
    } else {
      x_ = {g_.x_batch, g_.x_step[1], g_.x_step[2], g_.in[1], g_.in[2], g_.low[1], g_.low[2]};
    }
    images_ = copies_ ? room_.images() : g_.batch;
    tiles_ = tiles_of(g_);
    row_step_ = g_.in_channels + kRowPadding;
    const std::int64_t count = images_ * tiles_[0] * tiles_[1];
    const std::int64_t most =
        std::clamp<std::int64_t>(kBlockFloats / (kValues * row_step_), std::min(kBlockTiles, count), count);
    blocks_ = (count + most - 1) / most;
    if (blocks_ > 1) blocks_ = std::min(count, (blocks_ + threads_ - 1) / threads_ * threads_);
    panels_ = (g_.out_channels + micro_->nr - 1) / micro_->nr;
    // With few tiles, each thread takes some output channels of all.
    panel_pieces_ = std::min(panels_, (threads_ + blocks_ - 1) / blocks_);
    block_tiles_ = (count + blocks_ - 1) / blocks_;
    sums_at_ = kValues * block_tiles_ * row_step_;
    patch_at_ = sums_at_ + kValues * block_tiles_ * micro_->nr;
    result_at_ = patch_at_ + kValues * g_.in_channels;
    per_thread_ = (result_at_ + (epilogue_.after_tile() ? 4 * micro_->nr : 0) + 15) / 16 * 16;
  }

  static bool fits(const KernelRequest& r) {
    const ConvGeometry g = geometry_of(r);
    const Epilogue epilogue(std::get<ConvAttrs>(r.op.attrs).epilogue, {r.inputs.begin() + 3, r.inputs.end()},
                            r.outputs[0], 1);
    const Triple one{1, 1, 1};
    const bool taps = g.kernel == Triple{1, 3, 3} && g.stride == one && g.dilation == one && !g.spreads() &&
                      g.groups == 1 && g.in[0] == 1 && g.out[0] == 1 && g.low[0] == 0;
    // Products of pairs take half as long, and need no transforms.
    if (!taps || multiplies_pairs(micro(), r.inputs[0].dtype, r.inputs[1].dtype)) return false;
    if (!r.inputs[1].constant || g.x_channel != 1) return false;
    if (!epilogue.in_tile() && !epilogue.after_tile()) return false;
    const auto count = tiles_of(g);
    const std::int64_t all = g.batch * count[0] * count[1];
    const double gain = 36.0 / kValues * static_cast<double>(g.pixels()) / static_cast<double>(4 * all);
    return all >= kFewestTiles && gain >= kLeastGain && g.in_channels >= kFewestChannels &&
           g.out_channels >= kFewestChannels;
  }

  std::string name() const override { return std::string("conv[winograd ") + micro_->name + "]"; }
  std::size_t scratch_bytes() const override {
    return sizeof(float) * static_cast<std::size_t>(per_thread_ * threads_) + (copies_ ? room_.bytes() : 0);
  }
  int packed_input() const override { return 1; }
  std::size_t packed_bytes() const override {
    return sizeof(float) * static_cast<std::size_t>(panels_ * panel_floats());
  }
  std::string packing() const override {
    return "conv winograd panels " + std::to_string(micro_->nr) + " of" + weight_text(inputs_[1]);
  }

  // [panel][value][input channel][output channel of the panel]
  void pack(const void* raw, std::byte* packed, ThreadPool& pool) const override {
    const std::int64_t nr = micro_->nr, step = g_.in_channels * nr;
    pool.run(panels_, [&](std::int64_t panel, int) {
      float* const to = reinterpret_cast<float*>(packed) + panel * panel_floats();
      std::fill_n(to, panel_floats(), 0.0f);
      const std::int64_t first = panel * nr, count = std::min(nr, g_.out_channels - first);
      for (std::int64_t c = 0; c < g_.in_channels; ++c) {
        for (std::int64_t j = 0; j < count; ++j) {
          double values[kValues];
          transform_weights(raw, c, first + j, values);
          for (std::int64_t v = 0; v < kValues; ++v)
            to[v * step + c * nr + j] = static_cast<float>(values[v]);
        }
      }
    });
  }

  void run(const KernelArgs& args, ThreadPool& pool) const override {
    float* const room = reinterpret_cast<float*>(args.scratch) + per_thread_ * threads_;
    for (std::int64_t first = 0; first < g_.batch; first += images_) {
      const std::int64_t images = std::min(images_, g_.batch - first);
      const void* const x = element(args.inputs[0], inputs_[0].dtype, first * g_.x_batch);
      if (copies_) room_.fill(static_cast<const std::byte*>(x), images, room, 4 * threads_, pool);
      run_images(args, {copies_ ? room : static_cast<const float*>(x), first, images}, pool);
    }
  }

 private:
  // How images lie: those of the input, or their copies with a border.
  struct Lie {
    std::int64_t batch_step, row_step, column_step, rows, columns, above, left;
  };
  struct Images {
    const float* x;
    std::int64_t first, count;
  };

  // Where the results of tiles go: float32 where they belong, halves by way of sums in scratch.
  class Target {
   public:
    std::int64_t out_at = 0, residual_at = 0;  // of the tile

    Target(const WinogradConv& conv, const KernelArgs& args, std::int64_t column)
        : epilogue_(conv.epilogue_),
          g_(conv.g_),
          nr_(conv.micro_->nr),
          dtype_(conv.outputs_[0].dtype),
          y_(element(args.outputs[0], dtype_, column)),
          extras_(args.inputs + 3) {
      const int extra = epilogue_.residual();
      if (extra < 0) return;
      const Shape& steps = epilogue_.extras()[static_cast<std::size_t>(extra)].strides;
      residual_ = element(args.inputs[3 + extra], epilogue_.residual_dtype(), column);
      row_ = steps.size() > 3 ? steps[steps.size() - 2] : 0;
      column_ = steps.back();
    }

    void aim(WinogradOutput& pixels, float* sums) const {
      if (epilogue_.after_tile()) {
        pixels.y = sums;
        pixels.row_step = 2 * nr_;
        pixels.column_step = nr_;
        return;
      }
      pixels.y = reinterpret_cast<float*>(y_) + out_at;
      pixels.row_step = g_.out_step[1];
      pixels.column_step = g_.out_step[2];
      pixels.limits = epilogue_.limits();
      if (!residual_) return;
      pixels.residual = reinterpret_cast<const float*>(residual_) + residual_at;
      pixels.residual_row = row_;
      pixels.residual_column = column_;
    }

    void finish(const WinogradOutput& pixels) const {
      for (std::int64_t row = 0; row < pixels.rows; ++row) {
        float* const sums = pixels.y + row * pixels.row_step;
        if (!epilogue_.after_tile()) {
          epilogue_.apply_function(sums, pixels.column_step, pixels.columns, pixels.channels, extras_);
          continue;
        }
        const std::byte* const added =
            residual_ ? element(residual_, epilogue_.residual_dtype(), residual_at + row * row_) : nullptr;
        epilogue_.finish_tile({sums, pixels.column_step, pixels.columns, pixels.channels, added, column_,
                               element(y_, dtype_, out_at + row * g_.out_step[1]), g_.out_step[2], extras_});
      }
    }

   private:
    const Epilogue& epilogue_;
    const ConvGeometry& g_;
    std::int64_t nr_;
    DType dtype_;
    std::byte* y_;
    const void* const* extras_;
    const std::byte* residual_ = nullptr;
    std::int64_t row_ = 0, column_ = 0;  // steps of the residual
  };

  static std::array<std::int64_t, 2> tiles_of(const ConvGeometry& g) {
    return {(g.out[1] + 1) / 2, (g.out[2] + 1) / 2};
  }
  std::int64_t panel_floats() const { return kValues * g_.in_channels * micro_->nr; }

  void run_images(const KernelArgs& args, const Images& images, ThreadPool& pool) const {
    const std::int64_t tiles = images.count * tiles_[0] * tiles_[1];
    pool.run(blocks_ * panel_pieces_, [&](std::int64_t piece, int thread) {
      const Range range = split(tiles, blocks_, piece / panel_pieces_);
      float* const scratch = reinterpret_cast<float*>(args.scratch) + per_thread_ * thread;
      transform_input(images.x, range, scratch);
      const Range panels = split(panels_, panel_pieces_, piece % panel_pieces_);
      for (std::int64_t p = panels.begin; p < panels.end; ++p) {
        multiply(args, p, range, scratch);
        finish(args, images, p, range, scratch);
      }
    });
  }

  // The output pixel at the upper left of a tile.
  Pixel corner(std::int64_t tile) const {
    Pixel at(g_, 0);
    at.w = 2 * (tile % tiles_[1]);
    at.h = 2 * (tile / tiles_[1] % tiles_[0]);
    at.n = tile / tiles_[1] / tiles_[0];
    return at;
  }

  void transform_weights(const void* weights, std::int64_t c, std::int64_t column, double* values) const {
    const DType dtype = inputs_[1].dtype;
    double rows[4][3];
    for (std::int64_t w = 0; w < 3; ++w) {
      double g[3];
      for (std::int64_t h = 0; h < 3; ++h) {
        float tap;
        load_row(dtype, element(weights, dtype, g_.weight_at(column, (3 * h + w) * g_.in_channels + c)), 1,
                 &tap, 1);
        g[h] = static_cast<double>(tap);
      }
      rows[0][w] = g[0];
      rows[1][w] = 0.5 * (g[0] + g[1] + g[2]);
      rows[2][w] = 0.5 * (g[0] - g[1] + g[2]);
      rows[3][w] = g[2];
    }
    for (int i = 0; i < 4; ++i) {
      const double* const g = rows[i];
      values[4 * i] = g[0];
      values[4 * i + 1] = 0.5 * (g[0] + g[1] + g[2]);
      values[4 * i + 2] = 0.5 * (g[0] - g[1] + g[2]);
      values[4 * i + 3] = g[2];
    }
  }

  void transform_input(const float* x, Range range, float* scratch) const {
    WinogradInput patch;
    patch.channels = g_.in_channels;
    patch.to_step = (range.end - range.begin) * row_step_;
    for (std::int64_t tile = range.begin; tile < range.end; ++tile) {
      const Pixel at = corner(tile);
      const std::int64_t h = at.h - x_.above, w = at.w - x_.left;
      const float* const image = x + at.n * x_.batch_step;
      if (h >= 0 && w >= 0 && h + 4 <= x_.rows && w + 4 <= x_.columns) {
        patch.x = image + h * x_.row_step + w * x_.column_step;
        patch.row_step = x_.row_step;
        patch.column_step = x_.column_step;
      } else {
        copy_patch(image, h, w, scratch + patch_at_);
        patch.x = scratch + patch_at_;
        patch.row_step = 4 * g_.in_channels;
        patch.column_step = g_.in_channels;
      }
      patch.to = scratch + (tile - range.begin) * row_step_;
      micro_->winograd_input(patch);
    }
  }

  // With zeros for what lies beyond the border.
  void copy_patch(const float* image, std::int64_t h, std::int64_t w, float* to) const {
    for (std::int64_t i = h; i < h + 4; ++i) {
      for (std::int64_t j = w; j < w + 4; ++j, to += g_.in_channels) {
        if (i >= 0 && j >= 0 && i < x_.rows && j < x_.columns) {
          copy_floats(image + i * x_.row_step + j * x_.column_step, to, g_.in_channels);
        } else {
          std::fill_n(to, g_.in_channels, 0.0f);
        }
      }
    }
  }

  // The 16 products of one panel: rows are tiles, depth is input channels.
  void multiply(const KernelArgs& args, std::int64_t panel, Range range, float* scratch) const {
    const std::int64_t nr = micro_->nr, rows = range.end - range.begin, channels = g_.in_channels;
    const auto columns = static_cast<int>(std::min(nr, g_.out_channels - panel * nr));
    const std::int64_t strips = (rows + micro_->mr - 1) / micro_->mr;
    const float* weights = reinterpret_cast<const float*>(args.packed) + panel * panel_floats();
    GemmTile tile;
    tile.a_stride = row_step_;
    tile.c_stride = nr;
    for (std::int64_t v = 0; v < kValues; ++v, weights += channels * nr) {
      for (std::int64_t c = 0; c < channels; c += kLongestSum) {
        tile.k = std::min(kLongestSum, channels - c);
        tile.accumulate = c > 0;
        tile.b = weights + c * nr;
        for (std::int64_t i = 0; i < strips; ++i) {
          const Range part = split(rows, strips, i);
          tile.a = scratch + (v * rows + part.begin) * row_step_ + c;
          tile.c = scratch + sums_at_ + (v * rows + part.begin) * nr;
          tile.next = i < 2 ? weights + (channels + c) * nr + i * tile.k * 16 : nullptr;
          micro_->gemm_f32(static_cast<int>(part.end - part.begin), columns, tile);
        }
      }
    }
  }

  void finish(const KernelArgs& args, const Images& images, std::int64_t panel, Range range,
              float* scratch) const {
    const std::int64_t nr = micro_->nr, rows = range.end - range.begin, column = panel * nr;
    WinogradOutput pixels;
    pixels.channels = std::min(nr, g_.out_channels - column);
    pixels.from_step = rows * nr;
    float bias[kMostColumns];
    if (args.inputs[2]) {
      const TensorDesc& b = inputs_[2];
      load_row(b.dtype, element(args.inputs[2], b.dtype, column * b.strides[0]), b.strides[0], bias,
               pixels.channels);
      pixels.bias = bias;
    }
    Target to(*this, args, column);
    const ConvOperands operands(g_, request_, epilogue_, 0, nullptr, nullptr, false);
    for (std::int64_t tile = range.begin; tile < range.end; ++tile) {
      const Pixel at = corner(tile);
      operands.locate_rows(((images.first + at.n) * g_.out[1] + at.h) * g_.out[2] + at.w, 1,
                           epilogue_.residual(), &to.out_at, &to.residual_at);
      pixels.rows = static_cast<int>(std::min<std::int64_t>(2, g_.out[1] - at.h));
      pixels.columns = static_cast<int>(std::min<std::int64_t>(2, g_.out[2] - at.w));
      pixels.from = scratch + sums_at_ + (tile - range.begin) * nr;
      to.aim(pixels, scratch + result_at_);
      if (!micro_->winograd_output(pixels)) compute_directly(args, images.x, panel, at, pixels);
      to.finish(pixels);
    }
  }

  // An infinity or NaN, or a sum of numbers too large, has spread over the tile. Weights are taken from what
  // they were transformed into; where that rounds, so do sums.
  void compute_directly(const KernelArgs& args, const float* x, std::int64_t panel, const Pixel& corner,
                        const WinogradOutput& pixels) const {
    const std::int64_t nr = micro_->nr, step = g_.in_channels * nr;
    const float* const packed = reinterpret_cast<const float*>(args.packed) + panel * panel_floats();
    for (std::int64_t i = 0; i < pixels.rows * pixels.columns; ++i) {
      const std::int64_t row = i / pixels.columns, column = i % pixels.columns;
      for (std::int64_t channel = 0; channel < pixels.channels; ++channel) {
        float sum = 0;
        for (std::int64_t tap = 0; tap < 9; ++tap) {
          const std::int64_t h = corner.h + row + tap / 3 - x_.above,
                             w = corner.w + column + tap % 3 - x_.left;
          if (h < 0 || w < 0 || h >= x_.rows || w >= x_.columns) continue;
          const float* const pixel = x + corner.n * x_.batch_step + h * x_.row_step + w * x_.column_step;
          for (std::int64_t c = 0; c < g_.in_channels; ++c) {
            sum += pixel[c] * weight(packed + c * nr + channel, step, tap / 3, tap % 3);
          }
        }
        if (pixels.bias) sum += pixels.bias[channel];
        if (pixels.residual)
          sum += pixels.residual[row * pixels.residual_row + column * pixels.residual_column + channel];
        if (pixels.limits.apply)
          sum = std::isnan(sum) ? sum : std::clamp(sum, pixels.limits.low, pixels.limits.high);
        pixels.y[row * pixels.row_step + column * pixels.column_step + channel] = sum;
      }
    }
  }

  // One of the 3x3 weights that were transformed into 4x4 values, `step` apart: the corners are as they were,
  // what lies between them is the difference of two values.
  static float weight(const float* values, std::int64_t step, std::int64_t h, std::int64_t w) {
    const auto in_row = [&](std::int64_t row) {
      const float* const v = values + 4 * row * step;
      return w == 0 ? v[0] : w == 2 ? v[3 * step] : v[step] - v[2 * step];
    };
    return h == 0 ? in_row(0) : h == 2 ? in_row(3) : in_row(1) - in_row(2);
  }

  static constexpr int kMostColumns = 64;  // of a panel

  ConvRoom room_;
  bool copies_;
  Lie x_;
  std::int64_t images_ = 1;  // at a time
  std::array<std::int64_t, 2> tiles_{};
  std::int64_t row_step_ = 0, blocks_ = 1, block_tiles_ = 0, panels_ = 1, panel_pieces_ = 1;
  std::int64_t sums_at_ = 0, patch_at_ = 0, result_at_ = 0,
               per_thread_ = 0;  // in a thread's scratch, in floats
};

}  // namespace

bool is_winograd(const KernelRequest& request) { return WinogradConv::fits(request); }
KernelPtr make_winograd_conv(const KernelRequest& request) { return std::make_unique<WinogradConv>(request); }

}  // namespace npu::cpu
