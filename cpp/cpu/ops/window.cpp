#include "cpu/ops/window.h"

#include <limits>

namespace npu::cpu {

namespace {

// Of one block: 2 KB of sums, which stay in the first-level cache. 128 to 2048 are level for 1024 channels.
constexpr std::int64_t kChannels = 512;
constexpr std::int64_t kCells = 64;  // that are added before the sum is put aside, for accuracy

// Cells of one window, and the thread's buffers for a block of channels.
struct Scratch {
  std::int64_t* offsets;    // of the cells from the channel's first element
  std::int64_t* positions;  // flat indices into the spatial extent
  float *row, *total;
  std::int64_t *integers, *integer_total, *best;
};

class Windows : public HostKernel {
 public:
  Windows(const KernelRequest& r, const WindowGeometry& g, const Spans& span, bool maximum,
          std::int64_t divisor, const char* name)
      : micro_(&micro()),
        x_(r.inputs[0]),
        y_(r.outputs[0]),
        g_(g),
        maximum_(maximum),
        divisor_(divisor),
        name_(name) {
    if (r.outputs.size() > 1 && r.outputs[1].present()) indices_ = r.outputs[1];
    for (std::size_t d = 0; d < 3; ++d) {
      std::int64_t most = 1;
      for (std::int64_t o = 0; o < g.y.extent[d]; ++o) {
        spans_[d].push_back(span(d, o));
        most = std::max(most, spans_[d].back().count);
      }
      cells_ *= most;
    }
    channels_ = g.y.channels;
    blocks_ = (channels_ + kChannels - 1) / kChannels;
    units_ = g.y.batch * blocks_ * out(0) * out(1) * out(2);
    pieces_ = piece_count(units_, static_cast<double>(cells_ * std::min(channels_, kChannels)), r.threads);
    const auto cells = static_cast<std::size_t>(cells_);
    const std::size_t buffers = kChannels * (2 * sizeof(float) + 3 * sizeof(std::int64_t));
    thread_bytes_ = round_up(2 * cells * sizeof(std::int64_t) + buffers);
    scratch_ = thread_bytes_ * static_cast<std::size_t>(r.threads);
    in_place_ = is_float(x_.dtype) && (x_.strides[1] == 1 || channels_ == 1);
  }

  std::string name() const override { return name_ + (maximum_ ? "[max]" : "[avg]"); }
  std::size_t scratch_bytes() const override { return scratch_; }
  double flops() const override { return static_cast<double>(product(y_.shape) * cells_); }

  void run(const KernelArgs& args, ThreadPool& pool) const override {
    pool.run(pieces_, [&](std::int64_t piece, int thread) {
      const Scratch s = split_scratch(args.scratch + thread_bytes_ * static_cast<std::size_t>(thread));
      const Range range = split(units_, pieces_, piece);
      for (std::int64_t unit = range.begin; unit < range.end; ++unit) run_unit(args, unit, s);
    });
  }

 private:
  Scratch split_scratch(std::byte* at) const {
    Scratch s;
    s.offsets = reinterpret_cast<std::int64_t*>(at);
    s.positions = s.offsets + cells_;
    s.integers = s.positions + cells_;
    s.integer_total = s.integers + kChannels;
    s.best = s.integer_total + kChannels;
    s.row = reinterpret_cast<float*>(s.best + kChannels);
    s.total = s.row + kChannels;
    return s;
  }

  // Writes the cells of the window at `o`; returns how many.
  std::int64_t list_cells(const Triple& o, const Scratch& s) const {
    std::int64_t n = 0;
    const WindowSpan &a = span(0, o), &b = span(1, o), &c = span(2, o);
    const Triple &in = g_.x.extent, &step = g_.x.step;
    for (std::int64_t i = 0; i < a.count; ++i) {
      const std::int64_t d = a.first + i * g_.dilation[0];
      for (std::int64_t j = 0; j < b.count; ++j) {
        const std::int64_t h = b.first + j * g_.dilation[1];
        for (std::int64_t k = 0; k < c.count; ++k, ++n) {
          const std::int64_t w = c.first + k * g_.dilation[2];
          s.offsets[n] = d * step[0] + h * step[1] + w * step[2];
          s.positions[n] = (d * in[1] + h) * in[2] + w;
        }
      }
    }
    return n;
  }

  void run_unit(const KernelArgs& args, std::int64_t unit, const Scratch& s) const {
    Triple o;
    for (std::size_t d = 3; d-- > 0;) {
      o[d] = unit % out(d);
      unit /= out(d);
    }
    const std::int64_t first = unit % blocks_ * kChannels, batch = unit / blocks_;
    const std::int64_t n = std::min(kChannels, channels_ - first), cells = list_cells(o, s);
    const auto* x = at(args.inputs[0], g_.x.at(batch, first, {}), size_of(x_.dtype));
    auto* y = at(args.outputs[0], g_.y.at(batch, first, o), size_of(y_.dtype));
    std::int64_t divisor = divisor_;
    if (divisor == 0) divisor = span(0, o).covered * span(1, o).covered * span(2, o).covered;
    if (indices_.present()) {
      auto* indices =
          args.outputs[1] == nullptr ? nullptr : at(args.outputs[1], g_.indices.at(batch, first, o), 8);
      run_indexed(x, y, reinterpret_cast<std::int64_t*>(indices), n, cells, s);
    } else if (is_float(x_.dtype)) {
      run_floats(x, y, n, cells, divisor, s);
    } else {
      run_integers(x, y, n, cells, divisor, s);
    }
  }

  std::int64_t out(std::size_t d) const { return g_.y.extent[d]; }
  const WindowSpan& span(std::size_t d, const Triple& o) const {
    return spans_[d][static_cast<std::size_t>(o[d])];
  }

  void run_floats(const std::byte* x, std::byte* y, std::int64_t n, std::int64_t cells, std::int64_t divisor,
                  const Scratch& s) const {
    const bool direct = y_.dtype == DType::kFloat32 && (y_.strides[1] == 1 || n == 1);
    float* total = direct ? reinterpret_cast<float*>(y) : s.total;
    if (in_place_ && (maximum_ || cells <= kCells)) {
      const WindowRows rows{x_.dtype, x, s.offsets, cells};
      if (maximum_) {
        micro_->window_max(rows, total, n);
      } else {
        micro_->window_sum(rows, 1.0f / static_cast<float>(divisor), total, n);
      }
    } else {
      fold_floats(x, total, n, cells, s);
      if (!maximum_) micro_->scale_shift(total, 1.0f / static_cast<float>(divisor), 0.0f, total, n);
    }
    if (!direct) store_floats(*micro_, y_.dtype, total, y, y_.strides[1], n);
  }

  void fold_floats(const std::byte* x, float* total, std::int64_t n, std::int64_t cells,
                   const Scratch& s) const {
    std::fill_n(total, n, maximum_ ? -std::numeric_limits<float>::infinity() : 0.0f);
    if (in_place_) {
      for (std::int64_t i = 0; i < cells; i += kCells) {
        micro_->window_sum({x_.dtype, x, s.offsets + i, std::min(kCells, cells - i)}, 1.0f, s.row, n);
        micro_->add_into(s.row, total, n);
      }
      return;
    }
    for (std::int64_t i = 0; i < cells; ++i) {
      const float* row =
          float_row(*micro_, x_.dtype, at(x, s.offsets[i], size_of(x_.dtype)), x_.strides[1], n, s.row);
      maximum_ ? micro_->max_into(row, total, n) : micro_->add_into(row, total, n);
    }
  }

  void run_integers(const std::byte* x, std::byte* y, std::int64_t n, std::int64_t cells,
                    std::int64_t divisor, const Scratch& s) const {
    std::fill_n(s.integer_total, n, maximum_ ? std::numeric_limits<std::int64_t>::min() : 0);
    for (std::int64_t i = 0; i < cells; ++i) {
      load_integers(x_.dtype, at(x, s.offsets[i], size_of(x_.dtype)), x_.strides[1], n, s.integers);
      for (std::int64_t c = 0; c < n; ++c) {
        s.integer_total[c] =
            maximum_ ? std::max(s.integer_total[c], s.integers[c]) : s.integer_total[c] + s.integers[c];
      }
    }
    if (!maximum_ && divisor != 0) {
      for (std::int64_t c = 0; c < n; ++c) s.integer_total[c] /= divisor;
    }
    store_integers(y_.dtype, s.integer_total, y, y_.strides[1], n);
  }

  // Maxima and their positions: the first of equals, NaN before everything.
  void run_indexed(const std::byte* x, std::byte* y, std::int64_t* indices, std::int64_t n,
                   std::int64_t cells, const Scratch& s) const {
    if (is_float(x_.dtype)) {
      find_best(x, n, cells, s, s.row, s.total, -std::numeric_limits<float>::infinity());
      if (y != nullptr) store_floats(*micro_, y_.dtype, s.total, y, y_.strides[1], n);
    } else {
      find_best(x, n, cells, s, s.integers, s.integer_total, std::numeric_limits<std::int64_t>::min());
      if (y != nullptr) store_integers(y_.dtype, s.integer_total, y, y_.strides[1], n);
    }
    if (indices == nullptr) return;
    for (std::int64_t c = 0; c < n; ++c) indices[c * indices_.strides[1]] = s.best[c];
  }

  template <class T>
  void find_best(const std::byte* x, std::int64_t n, std::int64_t cells, const Scratch& s, T* row, T* total,
                 T least) const {
    std::fill_n(total, n, least);
    std::fill_n(s.best, n, cells > 0 ? s.positions[0] : 0);
    for (std::int64_t i = 0; i < cells; ++i) {
      const auto* from = at(x, s.offsets[i], size_of(x_.dtype));
      if constexpr (std::is_same_v<T, float>) {
        load_floats(*micro_, x_.dtype, from, x_.strides[1], n, row);
      } else {
        load_integers(x_.dtype, from, x_.strides[1], n, row);
      }
      for (std::int64_t c = 0; c < n; ++c) {
        if (!(row[c] > total[c] || row[c] != row[c])) continue;
        if (total[c] != total[c]) continue;  // the first NaN stays
        total[c] = row[c];
        s.best[c] = s.positions[i];
      }
    }
  }

  const Micro* micro_;
  TensorDesc x_, y_, indices_;
  WindowGeometry g_;
  bool maximum_, in_place_ = false;
  std::int64_t divisor_;
  std::string name_;
  std::vector<WindowSpan> spans_[3];  // of each output position
  std::int64_t cells_ = 1, channels_ = 1, blocks_ = 1, units_ = 1, pieces_ = 1;
  std::size_t thread_bytes_ = 0, scratch_ = 0;
};

}  // namespace

KernelPtr make_windows(const KernelRequest& request, const WindowGeometry& geometry, const Spans& span,
                       bool maximum, std::int64_t divisor, const char* name) {
  if (rows_fit(request, geometry)) return make_row_windows(request, geometry, span, maximum, divisor, name);
  return std::make_unique<Windows>(request, geometry, span, maximum, divisor, name);
}

}  // namespace npu::cpu
