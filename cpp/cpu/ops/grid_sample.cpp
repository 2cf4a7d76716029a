#include "core/geometry/grid_sample.h"

#include <cmath>

#include "cpu/element.h"
#include "cpu/ops/ops.h"
#include "cpu/strided.h"

namespace npu::cpu {

namespace {

using Kind = GridSampleAttrs::Kind;

constexpr std::int64_t kCells =
    1024;  // of a block: 12 KB of where they lie, which stay in the first-level cache
constexpr int kMostCells = 16;
constexpr std::int64_t kChannels = 256;  // of one position, at a time

class GridSample : public HostKernel {
 public:
  explicit GridSample(const KernelRequest& r)
      : micro_(&micro()),
        attrs_(std::get<GridSampleAttrs>(r.op.attrs)),
        x_(r.inputs[0]),
        grid_(r.inputs[1]),
        y_(r.outputs[0]),
        g_(grid_geometry(attrs_, y_, x_, grid_)) {
    const auto spatial = [](const Triple& of) { return Shape(of.begin(), of.end()); };
    nest_ = make_nest(spatial(g_.y.extent), {spatial(g_.y.step), spatial(g_.grid_step)});
    taps_ = attrs_.kind == Kind::kCubic ? 4 : attrs_.kind == Kind::kLinear ? 2 : 1;
    for (std::size_t d = g_.first; d < 3; ++d) cells_ *= taps_;
    block_ = kCells / cells_;
    blocks_ = (nest_.inner() + block_ - 1) / block_;
    units_ = g_.y.batch * nest_.rows * blocks_;
    along_channels_ = g_.x.channel_step == 1 && g_.y.channel_step == 1 && g_.y.channels >= 4;
    const double block = static_cast<double>(std::min(block_, nest_.inner()) * cells_);
    pieces_ = piece_count(units_, block * static_cast<double>(4 + 2 * g_.y.channels), r.threads);
    const std::int64_t floats = block_ * 3 * taps_ + 2 * kCells + std::max(block_, kChannels);
    const std::int64_t places = block_ * 3 * taps_ + 2 * kCells;
    thread_bytes_ = round_up(static_cast<std::size_t>(floats) * sizeof(float) +
                             static_cast<std::size_t>(places) * sizeof(std::int64_t));
    scratch_ = thread_bytes_ * static_cast<std::size_t>(r.threads);
  }

  std::string name() const override {
    static constexpr const char* kNames[] = {"grid_sample[nearest]", "grid_sample[linear]",
                                             "grid_sample[cubic]"};
    return kNames[static_cast<int>(attrs_.kind)];
  }
  std::size_t scratch_bytes() const override { return scratch_; }
  double flops() const override { return 2.0 * static_cast<double>(product(y_.shape) * cells_); }

  void run(const KernelArgs& args, ThreadPool& pool) const override {
    pool.run(pieces_, [&](std::int64_t piece, int thread) {
      std::byte* scratch = args.scratch + thread_bytes_ * static_cast<std::size_t>(thread);
      const Range range = split(units_, pieces_, piece);
      for (std::int64_t unit = range.begin; unit < range.end; ++unit) run_block(args, unit, scratch);
    });
  }

 private:
  // Where the cells of a block lie in a channel: all first ones, then all second ones.
  struct Cells {
    std::int64_t* at;
    float* weights;
  };

  void run_block(const KernelArgs& args, std::int64_t unit, std::byte* scratch) const {
    const std::int64_t begin = unit % blocks_ * block_, row = unit / blocks_ % nest_.rows;
    const std::int64_t image = unit / (blocks_ * nest_.rows), n = std::min(block_, nest_.inner() - begin);
    const Cursor cursor(nest_, row);
    const std::int64_t grid = image * g_.grid_batch + cursor.offset[1] + begin * nest_.step(1);
    auto* const places = reinterpret_cast<std::int64_t*>(scratch);
    auto* const floats = reinterpret_cast<float*>(places + block_ * 3 * taps_ + 2 * kCells);
    float* const rest = floats + block_ * 3 * taps_ + 2 * kCells;
    const Cells cells = list_cells(args, grid, n, places, floats, rest);
    const std::int64_t y = image * g_.y.batch_step + cursor.offset[0] + begin * nest_.step(0);
    along_channels_ ? mix_channels(args, cells, image, y, n, rest)
                    : mix_positions(args, cells, image, y, n, rest);
  }

  Cells list_cells(const KernelArgs& args, std::int64_t grid, std::int64_t n, std::int64_t* places,
                   float* floats, float* row) const {
    Cells all{places, floats};
    std::int64_t count = 1;
    // Two rooms for what is joined so far, one for each further dimension.
    Cells joined{places + block_ * 3 * taps_, floats + block_ * 3 * taps_};
    Cells next{joined.at + kCells, joined.weights + kCells};
    for (std::size_t d = g_.first; d < 3; ++d) {
      const GridAxis axis{attrs_.kind,
                          attrs_.padding,
                          g_.scale[d],
                          g_.shift,
                          static_cast<float>(g_.x.extent[d] - 1),
                          g_.low,
                          g_.span[d],
                          g_.keeps_nan ? -1 : 0,
                          g_.x.step[d]};
      const void* from = element(args.inputs[1], grid_.dtype, grid + g_.grid_coordinate[d]);
      const Cells one = d == g_.first ? all : Cells{places + block_ * taps_, floats + block_ * taps_};
      micro_->grid_taps(axis, float_row(*micro_, grid_.dtype, from, nest_.step(1), n, row), n, one.at,
                        one.weights);
      if (d == g_.first) {
        count = taps_;
        continue;
      }
      for (std::int64_t a = 0; a < count; ++a) {
        for (std::int64_t b = 0; b < taps_; ++b) {
          const std::int64_t to = (a * taps_ + b) * n;
          micro_->join_taps(all.at + a * n, all.weights + a * n, one.at + b * n, one.weights + b * n,
                            joined.at + to, joined.weights + to, n);
        }
      }
      count *= taps_;
      all = joined;
      std::swap(joined, next);
    }
    return all;
  }

  // Neighbours in memory are pixels of a row, or anything: a channel after the other.
  void mix_positions(const KernelArgs& args, const Cells& cells, std::int64_t image, std::int64_t y,
                     std::int64_t n, float* row) const {
    const bool direct = y_.dtype == DType::kFloat32 && (nest_.step(0) == 1 || n == 1);
    for (std::int64_t channel = 0; channel < g_.y.channels; ++channel) {
      const void* from = element(args.inputs[0], x_.dtype, g_.x.at(image, channel, {}));
      std::byte* to = element(args.outputs[0], y_.dtype, y + channel * g_.y.channel_step);
      float* const result = direct ? reinterpret_cast<float*>(to) : row;
      micro_->sample_cells(x_.dtype, from, cells.at, cells.weights, cells_, result, n);
      if (!direct) store_floats(*micro_, y_.dtype, row, to, nest_.step(0), n);
    }
  }

  void mix_channels(const KernelArgs& args, const Cells& cells, std::int64_t image, std::int64_t y,
                    std::int64_t n, float* row) const {
    const bool direct = y_.dtype == DType::kFloat32;
    for (std::int64_t i = 0; i < n; ++i) {
      std::int64_t offsets[kMostCells], count = 0;
      float weights[kMostCells];
      for (int k = 0; k < cells_; ++k) {
        const float weight = cells.weights[k * n + i];
        if (weight == 0.0f && std::signbit(weight)) continue;  // kOutside
        offsets[count] = cells.at[k * n + i];
        weights[count++] = weight;
      }
      for (std::int64_t first = 0; first < g_.y.channels; first += kChannels) {
        const std::int64_t channels = std::min(kChannels, g_.y.channels - first);
        const std::byte* from = element(args.inputs[0], x_.dtype, g_.x.at(image, first, {}));
        std::byte* to = element(args.outputs[0], y_.dtype, y + i * nest_.step(0) + first);
        float* const result = direct ? reinterpret_cast<float*>(to) : row;
        micro_->window_weighted({x_.dtype, from, offsets, count}, weights, result, channels);
        if (!direct) store_floats(*micro_, y_.dtype, row, to, 1, channels);
      }
    }
  }

  const Micro* micro_;
  GridSampleAttrs attrs_;
  TensorDesc x_, grid_, y_;
  GridGeometry g_;
  Nest nest_;  // of the positions: y, grid
  int taps_ = 1, cells_ = 1;
  std::int64_t block_ = 1, blocks_ = 1, units_ = 0, pieces_ = 0;
  bool along_channels_ = false;
  std::size_t thread_bytes_ = 0, scratch_ = 0;
};

}  // namespace

KernelPtr make_grid_sample(const KernelRequest& request) { return std::make_unique<GridSample>(request); }

}  // namespace npu::cpu
