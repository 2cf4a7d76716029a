// Windows over images whose rows lie along the memory, not their channels: the rows of a window are folded
// into one, and the cells of that one into results.
#include <limits>

#include "cpu/ops/window.h"

namespace npu::cpu {

namespace {

constexpr std::int64_t kRows = 64;        // that are added before the sum is put aside, for accuracy
constexpr std::int64_t kLongSpan = 32;    // cells that are worth a fold of their own
constexpr std::int64_t kFewestCells = 8;  // of a row, to be worth vectors

class RowWindows : public HostKernel {
 public:
  RowWindows(const KernelRequest& r, const WindowGeometry& g, const Spans& span, bool maximum,
             std::int64_t divisor, const char* name)
      : micro_(&micro()),
        x_dtype_(r.inputs[0].dtype),
        y_dtype_(r.outputs[0].dtype),
        g_(g),
        maximum_(maximum),
        divisor_(divisor),
        name_(name),
        indexed_(r.outputs.size() > 1 && r.outputs[1].present()) {
    for (std::size_t d = 0; d < 3; ++d) {
      for (std::int64_t o = 0; o < g.y.extent[d]; ++o) spans_[d].push_back(span(d, o));
    }
    for (std::size_t d = 0; d < 2; ++d) {
      std::int64_t most = 1;
      for (const WindowSpan& s : spans_[d]) most = std::max(most, s.count);
      rows_ *= most;
    }
    find_regular();
    units_ = g.y.batch * g.y.channels * g.y.extent[0] * g.y.extent[1];
    const double row = static_cast<double>(rows_ * g.x.extent[2] + 4 * g.y.extent[2]);
    pieces_ = piece_count(units_, row, r.threads);
    row_floats_ = (g.x.extent[2] + 15) / 16 * 16;
    out_floats_ = (g.y.extent[2] + 15) / 16 * 16;
    thread_bytes_ = round_up(static_cast<std::size_t>(2 * row_floats_ + out_floats_) * sizeof(float) +
                             static_cast<std::size_t>(rows_ + g.y.extent[2]) * sizeof(std::int64_t));
    scratch_ = thread_bytes_ * static_cast<std::size_t>(r.threads);
  }

  static bool fits(const KernelRequest& r, const WindowGeometry& g) {
    return is_float(r.inputs[0].dtype) && g.x.step[2] == 1 && (g.x.channel_step != 1 || g.x.channels == 1) &&
           g.x.extent[2] >= kFewestCells;
  }

  std::string name() const override { return name_ + (maximum_ ? "[max rows]" : "[avg rows]"); }
  std::size_t scratch_bytes() const override { return scratch_; }
  double flops() const override {
    return static_cast<double>(units_ * (rows_ * g_.x.extent[2] + g_.y.extent[2]));
  }

  void run(const KernelArgs& args, ThreadPool& pool) const override {
    pool.run(pieces_, [&](std::int64_t piece, int thread) {
      std::byte* const scratch = args.scratch + thread_bytes_ * static_cast<std::size_t>(thread);
      Buffers b;
      b.row = reinterpret_cast<float*>(scratch);
      b.part = b.row + row_floats_;
      b.out = b.part + row_floats_;
      b.offsets = reinterpret_cast<std::int64_t*>(b.out + out_floats_);
      b.best = b.offsets + rows_;
      const Range range = split(units_, pieces_, piece);
      for (std::int64_t unit = range.begin; unit < range.end; ++unit) run_unit(args, unit, b);
    });
  }

 private:
  struct Buffers {
    float *row, *part, *out;
    std::int64_t *offsets, *best;
  };

  std::int64_t step() const { return g_.dilation[2]; }

  // Results in the middle of a row, whose windows are as long and move on evenly.
  void find_regular() {
    const auto& s = spans_[2];
    const auto n = static_cast<std::int64_t>(s.size());
    std::int64_t begin = n / 2, end = begin;
    if (n < 2) return;
    const auto at = [&](std::int64_t i) -> const WindowSpan& { return s[static_cast<std::size_t>(i)]; };
    const std::int64_t middle = std::min(begin, n - 2);
    begin = middle;
    stride_ = at(middle + 1).first - at(middle).first;
    const auto alike = [&](std::int64_t i) {
      return at(i).count == at(middle).count && at(i).covered == at(middle).covered &&
             at(i).first == at(middle).first + (i - middle) * stride_;
    };
    while (begin > 0 && alike(begin - 1)) --begin;
    for (end = middle + 1; end < n && alike(end);) ++end;
    if (at(middle).count > 0 && at(middle).count < kLongSpan && stride_ > 0) regular_ = {begin, end};
  }

  void run_unit(const KernelArgs& args, std::int64_t unit, const Buffers& b) const {
    const std::int64_t h = unit % g_.y.extent[1], d = unit / g_.y.extent[1] % g_.y.extent[0];
    unit /= g_.y.extent[1] * g_.y.extent[0];
    const std::int64_t channel = unit % g_.y.channels, image = unit / g_.y.channels;
    const auto* x = at(args.inputs[0], g_.x.at(image, channel, {}), size_of(x_dtype_));
    auto* y = at(args.outputs[0], g_.y.at(image, channel, {d, h, 0}), size_of(y_dtype_));
    const WindowSpan &across = spans_[0][static_cast<std::size_t>(d)],
                     &down = spans_[1][static_cast<std::size_t>(h)];
    if (indexed_) {
      auto* const indices = static_cast<std::int64_t*>(args.outputs[1]);
      const std::int64_t to = indices != nullptr ? g_.indices.at(image, channel, {d, h, 0}) : 0;
      return find_best(x, args.outputs[0] != nullptr ? y : nullptr,
                       indices != nullptr ? indices + to : nullptr, across, down, b);
    }
    std::int64_t rows = 0;
    for (std::int64_t i = 0; i < across.count; ++i) {
      for (std::int64_t j = 0; j < down.count; ++j) {
        b.offsets[rows++] = (across.first + i * g_.dilation[0]) * g_.x.step[0] +
                            (down.first + j * g_.dilation[1]) * g_.x.step[1];
      }
    }
    fold_rows(x, rows, b);
    const bool direct = y_dtype_ == DType::kFloat32 && g_.y.step[2] == 1;
    float* const out = direct ? reinterpret_cast<float*>(y) : b.out;
    fold_cells(b.row, out);
    if (!maximum_) average(out, across.covered * down.covered);
    if (!direct) store_floats(*micro_, y_dtype_, out, y, g_.y.step[2], g_.y.extent[2]);
  }

  // Maxima and their positions: the first of equals, NaN before everything.
  void find_best(const std::byte* x, std::byte* y, std::int64_t* indices, const WindowSpan& across,
                 const WindowSpan& down, const Buffers& b) const {
    const std::int64_t n = g_.y.extent[2];
    const Triple& in = g_.x.extent;
    std::fill_n(b.out, n, nothing());
    for (std::int64_t w = 0; w < n; ++w)
      b.best[w] = (across.first * in[1] + down.first) * in[2] + spans_[2][static_cast<std::size_t>(w)].first;
    for (std::int64_t i = 0; i < across.count; ++i) {
      for (std::int64_t j = 0; j < down.count; ++j) {
        const std::int64_t d = across.first + i * g_.dilation[0], h = down.first + j * g_.dilation[1];
        const auto* const from = at(x, d * g_.x.step[0] + h * g_.x.step[1], size_of(x_dtype_));
        find_in_row(float_row(*micro_, x_dtype_, from, 1, in[2], b.row), (d * in[1] + h) * in[2], b);
      }
    }
    if (y != nullptr) store_floats(*micro_, y_dtype_, b.out, y, g_.y.step[2], n);
    for (std::int64_t w = 0; indices != nullptr && w < n; ++w) indices[w * g_.indices.step[2]] = b.best[w];
  }

  void find_in_row(const float* row, std::int64_t position, const Buffers& b) const {
    const std::int64_t n = g_.y.extent[2];
    for (std::int64_t w = 0; w < n; ++w) {
      const WindowSpan& s = spans_[2][static_cast<std::size_t>(w)];
      float most = b.out[w];
      std::int64_t at = b.best[w];
      for (std::int64_t k = 0, i = s.first; k < s.count; ++k, i += step()) {
        const bool better = (row[i] > most) | ((row[i] != row[i]) & (most == most));
        most = better ? row[i] : most;
        at = better ? position + i : at;
      }
      b.out[w] = most;
      b.best[w] = at;
    }
  }

  float nothing() const { return maximum_ ? -std::numeric_limits<float>::infinity() : 0.0f; }

  void fold_rows(const std::byte* x, std::int64_t rows, const Buffers& b) const {
    const std::int64_t n = g_.x.extent[2];
    const auto some = [&](std::int64_t first, std::int64_t count) {
      return WindowRows{x_dtype_, x, b.offsets + first, count};
    };
    if (maximum_) return micro_->window_max(some(0, rows), b.row, n);
    micro_->window_sum(some(0, std::min(rows, kRows)), 1.0f, b.row, n);
    for (std::int64_t i = kRows; i < rows; i += kRows) {
      micro_->window_sum(some(i, std::min(kRows, rows - i)), 1.0f, b.part, n);
      micro_->add_into(b.part, b.row, n);
    }
  }

  void fold_cells(const float* row, float* out) const {
    const auto n = static_cast<std::int64_t>(spans_[2].size());
    for (std::int64_t w = 0; w < n; ++w) {
      if (w == regular_.begin && regular_.end > regular_.begin) {
        fold_regular(row, out + w);
        w = regular_.end - 1;
        continue;
      }
      out[w] = fold_span(row, spans_[2][static_cast<std::size_t>(w)]);
    }
  }

  void fold_regular(const float* row, float* out) const {
    const WindowSpan& s = spans_[2][static_cast<std::size_t>(regular_.begin)];
    const std::int64_t n = regular_.end - regular_.begin;
    micro_->fold_strided(row + s.first, stride_, s.count, step(), maximum_, out, n);
  }

  float fold_span(const float* row, const WindowSpan& s) const {
    if (step() == 1 && s.count >= kLongSpan) {
      return maximum_ ? micro_->maximum(row + s.first, s.count)
                      : static_cast<float>(micro_->sum(row + s.first, s.count));
    }
    float total = nothing();
    for (std::int64_t k = 0; k < s.count; ++k) {
      const float v = row[s.first + k * step()];
      if (!maximum_) {
        total += v;
      } else if (total == total) {
        total = v > total || v != v ? v : total;
      }
    }
    return total;
  }

  // `rows` are those that an average counts.
  void average(float* out, std::int64_t rows) const {
    const auto n = static_cast<std::int64_t>(spans_[2].size());
    for (std::int64_t w = 0; w < n; ++w) {
      if (divisor_ == 0 && w == regular_.begin && regular_.end > regular_.begin) {
        const std::int64_t covered = spans_[2][static_cast<std::size_t>(w)].covered;
        micro_->scale_shift(out + w, 1.0f / static_cast<float>(rows * covered), 0.0f, out + w,
                            regular_.end - regular_.begin);
        w = regular_.end - 1;
        continue;
      }
      const std::int64_t covered = spans_[2][static_cast<std::size_t>(w)].covered;
      out[w] *= 1.0f / static_cast<float>(divisor_ != 0 ? divisor_ : rows * covered);
    }
  }

  const Micro* micro_;
  DType x_dtype_, y_dtype_;
  WindowGeometry g_;
  bool maximum_;
  std::int64_t divisor_;
  std::string name_;
  bool indexed_;
  std::vector<WindowSpan> spans_[3];  // of each output position
  Range regular_{0, 0};
  std::int64_t stride_ = 1, rows_ = 1, units_ = 1, pieces_ = 1, row_floats_ = 0, out_floats_ = 0;
  std::size_t thread_bytes_ = 0, scratch_ = 0;
};

}  // namespace

bool rows_fit(const KernelRequest& request, const WindowGeometry& geometry) {
  return RowWindows::fits(request, geometry);
}

KernelPtr make_row_windows(const KernelRequest& request, const WindowGeometry& geometry, const Spans& span,
                           bool maximum, std::int64_t divisor, const char* name) {
  return std::make_unique<RowWindows>(request, geometry, span, maximum, divisor, name);
}

}  // namespace npu::cpu
