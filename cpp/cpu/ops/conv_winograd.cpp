// 3x3 convolutions by F(2x2, 3x3): 2x2 output pixels take 16 products of transformed input and weights for
// each pair of channels, not 36. What the transforms add costs accuracy: larger tiles would not keep the rule
// for numbers.
#include <cmath>

#include "cpu/ops/conv.h"

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
  explicit WinogradConv(const KernelRequest& r) : ConvBase(r) {
    tiles_ = tiles_of(g_);
    row_step_ = g_.in_channels + kRowPadding;
    const std::int64_t count = tiles();
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
    per_thread_ = (patch_at_ + kValues * g_.in_channels + 15) / 16 * 16;
  }

  static bool fits(const KernelRequest& r) {
    const ConvGeometry g = geometry_of(r);
    const Epilogue epilogue(std::get<ConvAttrs>(r.op.attrs).epilogue, {r.inputs.begin() + 3, r.inputs.end()},
                            r.outputs[0], 1);
    const Triple one{1, 1, 1};
    const bool taps = g.kernel == Triple{1, 3, 3} && g.stride == one && g.dilation == one && !g.spreads() &&
                      g.groups == 1 && g.in[0] == 1 && g.out[0] == 1 && g.low[0] == 0;
    const bool dtypes = r.inputs[0].dtype == DType::kFloat32 && r.inputs[1].dtype == DType::kFloat32;
    if (!taps || !dtypes || !r.inputs[1].constant || g.x_channel != 1 || !epilogue.in_tile()) return false;
    const auto count = tiles_of(g);
    const std::int64_t all = g.batch * count[0] * count[1];
    const double gain = 36.0 / kValues * static_cast<double>(g.pixels()) / static_cast<double>(4 * all);
    return all >= kFewestTiles && gain >= kLeastGain && g.in_channels >= kFewestChannels &&
           g.out_channels >= kFewestChannels;
  }

  std::string name() const override { return std::string("conv[winograd ") + micro_->name + "]"; }
  std::size_t scratch_bytes() const override {
    return sizeof(float) * static_cast<std::size_t>(per_thread_ * threads_);
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
    const float* const weights = static_cast<const float*>(raw);
    const std::int64_t nr = micro_->nr, step = g_.in_channels * nr;
    pool.run(panels_, [&](std::int64_t panel, int) {
      float* const to = reinterpret_cast<float*>(packed) + panel * panel_floats();
      std::fill_n(to, panel_floats(), 0.0f);
      const std::int64_t first = panel * nr, count = std::min(nr, g_.out_channels - first);
      for (std::int64_t c = 0; c < g_.in_channels; ++c) {
        for (std::int64_t j = 0; j < count; ++j) {
          double values[kValues];
          transform_weights(weights, c, first + j, values);
          for (std::int64_t v = 0; v < kValues; ++v)
            to[v * step + c * nr + j] = static_cast<float>(values[v]);
        }
      }
    });
  }

  void run(const KernelArgs& args, ThreadPool& pool) const override {
    pool.run(blocks_ * panel_pieces_, [&](std::int64_t piece, int thread) {
      const Range range = split(tiles(), blocks_, piece / panel_pieces_);
      float* const scratch = reinterpret_cast<float*>(args.scratch) + per_thread_ * thread;
      transform_input(static_cast<const float*>(args.inputs[0]), range, scratch);
      const Range panels = split(panels_, panel_pieces_, piece % panel_pieces_);
      for (std::int64_t p = panels.begin; p < panels.end; ++p) {
        multiply(args, p, range, scratch);
        finish(args, p, range, scratch);
      }
    });
  }

 private:
  static std::array<std::int64_t, 2> tiles_of(const ConvGeometry& g) {
    return {(g.out[1] + 1) / 2, (g.out[2] + 1) / 2};
  }
  std::int64_t tiles() const { return g_.batch * tiles_[0] * tiles_[1]; }
  std::int64_t panel_floats() const { return kValues * g_.in_channels * micro_->nr; }

  // The output pixel at the upper left of a tile.
  Pixel corner(std::int64_t tile) const {
    Pixel at(g_, 0);
    at.w = 2 * (tile % tiles_[1]);
    at.h = 2 * (tile / tiles_[1] % tiles_[0]);
    at.n = tile / tiles_[1] / tiles_[0];
    return at;
  }

  void transform_weights(const float* weights, std::int64_t c, std::int64_t column, double* values) const {
    double rows[4][3];
    for (std::int64_t w = 0; w < 3; ++w) {
      double g[3];
      for (std::int64_t h = 0; h < 3; ++h) {
        g[h] = static_cast<double>(weights[g_.weight_at(column, (3 * h + w) * g_.in_channels + c)]);
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
      const std::int64_t h = at.h - g_.low[1], w = at.w - g_.low[2];
      const float* const image = x + at.n * g_.x_batch;
      if (h >= 0 && w >= 0 && h + 4 <= g_.in[1] && w + 4 <= g_.in[2]) {
        patch.x = image + h * g_.x_step[1] + w * g_.x_step[2];
        patch.row_step = g_.x_step[1];
        patch.column_step = g_.x_step[2];
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
        if (i >= 0 && j >= 0 && i < g_.in[1] && j < g_.in[2]) {
          copy_floats(image + i * g_.x_step[1] + j * g_.x_step[2], to, g_.in_channels);
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

  void finish(const KernelArgs& args, std::int64_t panel, Range range, const float* scratch) const {
    const std::int64_t nr = micro_->nr, rows = range.end - range.begin, column = panel * nr;
    WinogradOutput pixels;
    pixels.channels = std::min(nr, g_.out_channels - column);
    pixels.from_step = rows * nr;
    pixels.row_step = g_.out_step[1];
    pixels.column_step = g_.out_step[2];
    pixels.limits = epilogue_.limits();
    float bias[kMostColumns];
    if (args.inputs[2]) {
      const TensorDesc& b = inputs_[2];
      load_row(b.dtype, element(args.inputs[2], b.dtype, column * b.strides[0]), b.strides[0], bias,
               pixels.channels);
      pixels.bias = bias;
    }
    const int extra = epilogue_.residual();
    const float* residual = nullptr;
    if (extra >= 0) {
      const Shape& steps = epilogue_.extras()[static_cast<std::size_t>(extra)].strides;
      residual = static_cast<const float*>(args.inputs[3 + extra]) + column;
      pixels.residual_row = steps.size() > 3 ? steps[steps.size() - 2] : 0;
      pixels.residual_column = steps.back();
    }
    const ConvOperands operands(g_, request_, epilogue_, 0, nullptr, nullptr, false);
    for (std::int64_t tile = range.begin; tile < range.end; ++tile) {
      const Pixel at = corner(tile);
      std::int64_t out = 0, extra_at = 0;
      operands.locate_rows((at.n * g_.out[1] + at.h) * g_.out[2] + at.w, 1, extra, &out, &extra_at);
      pixels.rows = static_cast<int>(std::min<std::int64_t>(2, g_.out[1] - at.h));
      pixels.columns = static_cast<int>(std::min<std::int64_t>(2, g_.out[2] - at.w));
      pixels.from = scratch + sums_at_ + (tile - range.begin) * nr;
      pixels.y = static_cast<float*>(args.outputs[0]) + out + column;
      if (residual) pixels.residual = residual + extra_at;
      if (!micro_->winograd_output(pixels)) compute_directly(args, panel, at, pixels);
      for (std::int64_t row = 0; row < pixels.rows; ++row) {
        epilogue_.apply_function(pixels.y + row * pixels.row_step, pixels.column_step, pixels.columns,
                                 pixels.channels);
      }
    }
  }

  // An infinity or NaN, or a sum of numbers too large, has spread over the tile. Weights are taken from what
  // they were transformed into; where that rounds, so do sums.
  void compute_directly(const KernelArgs& args, std::int64_t panel, const Pixel& corner,
                        const WinogradOutput& pixels) const {
    const std::int64_t nr = micro_->nr, step = g_.in_channels * nr;
    const float* const packed = reinterpret_cast<const float*>(args.packed) + panel * panel_floats();
    for (std::int64_t i = 0; i < pixels.rows * pixels.columns; ++i) {
      const std::int64_t h = i / pixels.columns, w = i % pixels.columns;
      for (std::int64_t channel = 0; channel < pixels.channels; ++channel) {
        float sum = 0;
        for (std::int64_t tap = 0; tap < 9; ++tap) {
          const std::int64_t y = g_.source(1, corner.h + h, tap / 3), z = g_.source(2, corner.w + w, tap % 3);
          if (y < 0 || z < 0) continue;
          const float* const x = static_cast<const float*>(args.inputs[0]) + corner.n * g_.x_batch +
                                 y * g_.x_step[1] + z * g_.x_step[2];
          for (std::int64_t c = 0; c < g_.in_channels; ++c) {
            sum += x[c] * weight(packed + c * nr + channel, step, tap / 3, tap % 3);
          }
        }
        if (pixels.bias) sum += pixels.bias[channel];
        if (pixels.residual)
          sum += pixels.residual[h * pixels.residual_row + w * pixels.residual_column + channel];
        if (pixels.limits.apply)
          sum = std::isnan(sum) ? sum : std::clamp(sum, pixels.limits.low, pixels.limits.high);
        pixels.y[h * pixels.row_step + w * pixels.column_step + channel] = sum;
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

  std::array<std::int64_t, 2> tiles_{};
  std::int64_t row_step_ = 0, blocks_ = 1, block_tiles_ = 0, panels_ = 1, panel_pieces_ = 1;
  std::int64_t sums_at_ = 0, patch_at_ = 0, per_thread_ = 0;  // in a thread's scratch, in floats
};

}  // namespace

bool is_winograd(const KernelRequest& request) { return WinogradConv::fits(request); }
KernelPtr make_winograd_conv(const KernelRequest& request) { return std::make_unique<WinogradConv>(request); }

}  // namespace npu::cpu
