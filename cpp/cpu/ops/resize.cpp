#include "core/geometry/resize.h"

#include <cmath>

#include "cpu/element.h"
#include "cpu/ops/ops.h"
#include "cpu/strided.h"

namespace npu::cpu {

namespace {

using Kind = ResizeAttrs::Kind;

// Of one block: 2 KB of sums, which stay in the first-level cache. 128 to 2048 are level for 1024 channels.
constexpr std::int64_t kChannels = 512;
constexpr int kMostTaps = 64;  // 4 of 3 dimensions each

// The input positions, and their weights, of every output position along one dimension.
struct Taps {
  int count = 1;
  std::vector<std::int64_t> index;
  std::vector<double> weight;

  void add(std::int64_t i, double w, std::int64_t in) {
    index.push_back(std::clamp<std::int64_t>(i, 0, std::max<std::int64_t>(in - 1, 0)));
    weight.push_back(w);
  }
};

// In float32 as PyTorch computes it: which element is nearest depends on how this is rounded.
std::int64_t nearest(double scale, std::int64_t out, float shift) {
  return static_cast<std::int64_t>(std::floor((static_cast<float>(out) + shift) * static_cast<float>(scale)));
}

void add_cubic(Taps& taps, double at, std::int64_t in) {
  constexpr double a = -0.75;
  const double whole = std::floor(at), t = at - whole;
  const auto i = static_cast<std::int64_t>(whole);
  const auto near = [](double x) { return ((a + 2) * x - (a + 3)) * x * x + 1; };
  const auto far = [](double x) { return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a; };
  taps.add(i - 1, far(t + 1), in);
  taps.add(i, near(t), in);
  taps.add(i + 1, near(1 - t), in);
  taps.add(i + 2, far(2 - t), in);
}

void add_linear(Taps& taps, double at, std::int64_t in) {
  const double inside = std::max(at, 0.0);
  const std::int64_t i = std::min(static_cast<std::int64_t>(inside), in - 1);
  const double t = std::min(inside - static_cast<double>(i), 1.0);
  taps.add(i, 1 - t, in);
  taps.add(i + 1, t, in);
}

Taps taps_of(const ResizeAttrs& attrs, const ResizeGeometry& g, std::size_t d) {
  Taps taps;
  const double scale = g.scale[d];
  const std::int64_t in = g.x.extent[d], out = g.y.extent[d];
  taps.count = attrs.kind == Kind::kCubic ? 4 : attrs.kind == Kind::kLinear ? 2 : 1;
  for (std::int64_t o = 0; o < out; ++o) {
    const auto position = static_cast<double>(o);
    const double at = attrs.align_corners ? scale * position : scale * (position + 0.5) - 0.5;
    switch (attrs.kind) {
      case Kind::kNearest:
        taps.add(nearest(scale, o, 0.0f), 1, in);
        break;
      case Kind::kNearestExact:
        taps.add(nearest(scale, o, 0.5f), 1, in);
        break;
      case Kind::kLinear:
        add_linear(taps, at, in);
        break;
      case Kind::kCubic:
        add_cubic(taps, at, in);
        break;
    }
  }
  return taps;
}

class Resize : public HostKernel {
 public:
  explicit Resize(const KernelRequest& r)
      : micro_(&micro()),
        kind_(std::get<ResizeAttrs>(r.op.attrs).kind),
        x_(r.inputs[0]),
        y_(r.outputs[0]),
        g_(resize_geometry(std::get<ResizeAttrs>(r.op.attrs), y_, x_)) {
    const auto& attrs = std::get<ResizeAttrs>(r.op.attrs);
    const std::size_t missing = 5 - y_.shape.size();
    for (std::size_t d = 0; d < 3; ++d) {
      if (d < missing) {
        taps_[d].add(0, 1, 1);
      } else {
        taps_[d] = taps_of(attrs, g_, d);
      }
    }
    channels_ = g_.y.channels;
    blocks_ = (channels_ + kChannels - 1) / kChannels;
    units_ = g_.y.batch * blocks_ * g_.y.extent[0] * g_.y.extent[1] * g_.y.extent[2];
    cells_ = taps_[0].count * taps_[1].count * taps_[2].count;
    pieces_ = piece_count(units_, static_cast<double>(cells_ * std::min(channels_, kChannels)), r.threads);
    thread_bytes_ = kChannels * 2 * sizeof(float);
    scratch_ = thread_bytes_ * static_cast<std::size_t>(r.threads);
    in_place_ = is_float(x_.dtype) && (x_.strides[1] == 1 || channels_ == 1);
    if (rows_lie_along()) plan_rows(r.threads);
  }

  std::string name() const override {
    static constexpr const char* kNames[] = {"resize[nearest]", "resize[nearest]", "resize[linear]",
                                             "resize[cubic]"};
    return kNames[static_cast<int>(kind_)];
  }
  std::size_t scratch_bytes() const override { return scratch_; }
  double flops() const override { return 2.0 * static_cast<double>(product(y_.shape) * cells_); }

  void run(const KernelArgs& args, ThreadPool& pool) const override {
    pool.run(pieces_, [&](std::int64_t piece, int thread) {
      std::byte* scratch = args.scratch + thread_bytes_ * static_cast<std::size_t>(thread);
      const Range range = split(units_, pieces_, piece);
      for (std::int64_t unit = range.begin; unit < range.end; ++unit) {
        along_ ? run_row(args, unit, scratch) : run_unit(args, unit, scratch);
      }
    });
  }

 private:
  bool is_nearest() const { return kind_ == Kind::kNearest || kind_ == Kind::kNearestExact; }

  // Neighbours in memory are pixels of a row: then each row of results is made of some rows of the input.
  bool rows_lie_along() const {
    return g_.x.step[2] == 1 && (g_.x.channel_step != 1 || channels_ == 1) && g_.y.extent[2] >= 8;
  }

  void plan_rows(int threads) {
    along_ = true;
    units_ = g_.y.batch * channels_ * g_.y.extent[0] * g_.y.extent[1];
    const std::int64_t in = g_.x.extent[2], out = g_.y.extent[2];
    pieces_ = piece_count(units_, static_cast<double>((in + 2 * out) * taps_[2].count), threads);
    // As the loops over a row want them: all first cells, then all second ones.
    for (int k = 0; k < taps_[2].count; ++k) {
      for (std::int64_t w = 0; w < out; ++w) {
        const auto from = static_cast<std::size_t>(w * taps_[2].count + k);
        columns_.push_back(taps_[2].index[from]);
        column_weights_.push_back(static_cast<float>(taps_[2].weight[from]));
      }
    }
    thread_bytes_ = round_up(static_cast<std::size_t>(2 * in + out) * sizeof(float));
    scratch_ = thread_bytes_ * static_cast<std::size_t>(threads);
  }

  void run_row(const KernelArgs& args, std::int64_t unit, std::byte* scratch) const {
    const std::int64_t h = unit % g_.y.extent[1], d = unit / g_.y.extent[1] % g_.y.extent[0];
    unit /= g_.y.extent[1] * g_.y.extent[0];
    const std::int64_t channel = unit % channels_, image = unit / channels_;
    const auto* x = at(args.inputs[0], g_.x.at(image, channel, {}), size_of(x_.dtype));
    auto* y = at(args.outputs[0], g_.y.at(image, channel, {d, h, 0}), size_of(y_.dtype));
    is_nearest() ? pick_row(x, y, d, h) : blend_row(x, y, d, h, reinterpret_cast<float*>(scratch));
  }

  std::int64_t row_offset(std::int64_t d, int i, std::int64_t h, int j) const {
    return taps_[0].index[static_cast<std::size_t>(d * taps_[0].count + i)] * g_.x.step[0] +
           taps_[1].index[static_cast<std::size_t>(h * taps_[1].count + j)] * g_.x.step[1];
  }

  void pick_row(const std::byte* x, std::byte* y, std::int64_t d, std::int64_t h) const {
    const std::size_t size = size_of(x_.dtype);
    const std::byte* const from = at(x, row_offset(d, 0, h, 0), size);
    const std::int64_t n = g_.y.extent[2], step = g_.y.step[2];
    if (size == 4 && step == 1) return micro_->pick_words(from, columns_.data(), y, n);
    visit_size(size, [&](auto zero) {
      using T = decltype(zero);
      for (std::int64_t w = 0; w < n; ++w) {
        reinterpret_cast<T*>(y)[w * step] =
            reinterpret_cast<const T*>(from)[columns_[static_cast<std::size_t>(w)]];
      }
    });
  }

  void blend_row(const std::byte* x, std::byte* y, std::int64_t d, std::int64_t h, float* scratch) const {
    const std::int64_t in = g_.x.extent[2], out = g_.y.extent[2];
    float *const row = scratch, *const part = row + in;
    std::int64_t offsets[kMostTaps], count = 0;
    float weights[kMostTaps];
    for (int i = 0; i < taps_[0].count; ++i) {
      for (int j = 0; j < taps_[1].count; ++j) {
        const auto weight =
            static_cast<float>(taps_[0].weight[static_cast<std::size_t>(d * taps_[0].count + i)] *
                               taps_[1].weight[static_cast<std::size_t>(h * taps_[1].count + j)]);
        if (weight == 0.0f) continue;  // it must not turn an infinity into NaN
        offsets[count] = row_offset(d, i, h, j);
        weights[count++] = weight;
      }
    }
    micro_->window_weighted({x_.dtype, x, offsets, count}, weights, row, in);
    const bool direct = y_.dtype == DType::kFloat32 && g_.y.step[2] == 1;
    float* const to = direct ? reinterpret_cast<float*>(y) : part + in;
    micro_->blend_cells(row, columns_.data(), column_weights_.data(), taps_[2].count, to, out);
    if (!direct) store_floats(*micro_, y_.dtype, to, y, g_.y.step[2], out);
  }

  // Writes offsets and weights of the cells at `o`; returns how many.
  std::int64_t list_cells(const Triple& o, std::int64_t* offsets, float* weights) const {
    std::int64_t n = 0;
    for (int i = 0; i < taps_[0].count; ++i) {
      const auto d = static_cast<std::size_t>(o[0] * taps_[0].count + i);
      for (int j = 0; j < taps_[1].count; ++j) {
        const auto h = static_cast<std::size_t>(o[1] * taps_[1].count + j);
        for (int k = 0; k < taps_[2].count; ++k) {
          const auto w = static_cast<std::size_t>(o[2] * taps_[2].count + k);
          // A weight of zero must not turn an infinity next to it into NaN.
          const auto weight =
              static_cast<float>(taps_[0].weight[d] * taps_[1].weight[h] * taps_[2].weight[w]);
          if (weight == 0.0f) continue;
          offsets[n] = g_.x.at(0, 0, {taps_[0].index[d], taps_[1].index[h], taps_[2].index[w]});
          weights[n++] = weight;
        }
      }
    }
    return n;
  }

  void run_unit(const KernelArgs& args, std::int64_t unit, std::byte* scratch) const {
    std::int64_t offsets[kMostTaps];
    float weights[kMostTaps];
    Triple o;
    for (std::size_t d = 3; d-- > 0;) {
      o[d] = unit % g_.y.extent[d];
      unit /= g_.y.extent[d];
    }
    const std::int64_t first = unit % blocks_ * kChannels, batch = unit / blocks_;
    const std::int64_t n = std::min(kChannels, channels_ - first), cells = list_cells(o, offsets, weights);
    const auto* x = at(args.inputs[0], g_.x.at(batch, first, {}), size_of(x_.dtype));
    auto* y = at(args.outputs[0], g_.y.at(batch, first, o), size_of(y_.dtype));
    if (is_nearest()) {
      copy_row(y, y_.strides[1], at(x, offsets[0], size_of(x_.dtype)), x_.strides[1], n, size_of(x_.dtype));
    } else {
      blend(x, y, n, cells, offsets, weights, scratch);
    }
  }

  void blend(const std::byte* x, std::byte* y, std::int64_t n, std::int64_t cells,
             const std::int64_t* offsets, const float* weights, std::byte* scratch) const {
    auto* row = reinterpret_cast<float*>(scratch);
    const bool direct = y_.dtype == DType::kFloat32 && (y_.strides[1] == 1 || n == 1);
    float* total = direct ? reinterpret_cast<float*>(y) : row + kChannels;
    if (in_place_) {
      micro_->window_weighted({x_.dtype, x, offsets, cells}, weights, total, n);
    } else {
      std::fill_n(total, n, 0.0f);
      for (std::int64_t i = 0; i < cells; ++i) {
        load_floats(*micro_, x_.dtype, at(x, offsets[i], size_of(x_.dtype)), x_.strides[1], n, row);
        for (std::int64_t c = 0; c < n; ++c) total[c] += row[c] * weights[i];
      }
    }
    if (direct) return;
    store_floats(*micro_, y_.dtype, total, y, y_.strides[1], n);
  }

  const Micro* micro_;
  Kind kind_;
  TensorDesc x_, y_;
  ResizeGeometry g_;
  Taps taps_[3];
  std::int64_t channels_ = 1, blocks_ = 1, units_ = 1, cells_ = 1, pieces_ = 1;
  bool in_place_ = false, along_ = false;
  std::vector<std::int64_t> columns_;  // of rows that lie along: [cell][result]
  std::vector<float> column_weights_;
  std::size_t thread_bytes_ = 0, scratch_ = 0;
};

}  // namespace

KernelPtr make_resize(const KernelRequest& request) { return std::make_unique<Resize>(request); }

}  // namespace npu::cpu
