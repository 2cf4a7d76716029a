#include <cmath>

#include "core/geometry/axis.h"
#include "cpu/element.h"
#include "cpu/ops/ops.h"
#include "cpu/strided.h"

namespace npu::cpu {

namespace {

// Of rows that lie across: columns that are worked on together, with all of their rows in the first-level
// cache where that is possible.
constexpr std::int64_t kMostColumns = 512, kFewestColumns = 16, kBlockFloats = 8192;
constexpr std::int64_t kSummed = 64;  // rows added in float32 before their sum is, for accuracy

class Softmax : public HostKernel {
 public:
  explicit Softmax(const KernelRequest& r)
      : micro_(&micro()), x_(r.inputs[0]), y_(r.outputs[0]), threads_(r.threads) {
    const auto& attrs = std::get<SoftmaxAttrs>(r.op.attrs);
    log_ = attrs.log;
    const AxisCut cut = cut_axis(attrs.axis, {&y_, &x_});
    n_ = cut.extent;
    sy_ = cut.steps[0];
    sx_ = cut.steps[1];
    nest_ = cut.rows;
    read_ = x_.dtype == DType::kFloat32 && (sx_ == 1 || n_ == 1);
    write_ = y_.dtype == DType::kFloat32 && (sy_ == 1 || n_ == 1);
    across_ =
        n_ > 1 && sx_ != 1 && nest_.step(0) == 1 && nest_.step(1) == 1 && nest_.inner() >= kFewestColumns;
    columns_ =
        across_ ? std::min(std::clamp(kBlockFloats / n_, kFewestColumns, kMostColumns), nest_.inner()) : 1;
    blocks_ = (nest_.inner() + columns_ - 1) / columns_;
    units_ = n_ == 0 ? 0 : nest_.rows * blocks_;
    pieces_ = piece_count(units_, 5 * static_cast<double>(n_ * columns_), threads_);
    if (across_) {
      thread_bytes_ = round_up(static_cast<std::size_t>((n_ + 3) * columns_) * sizeof(float));
    } else if (!read_ || !write_) {
      thread_bytes_ = round_up(static_cast<std::size_t>(n_) * sizeof(float));
    }
  }

  std::string name() const override { return log_ ? "softmax[log]" : "softmax"; }
  std::size_t scratch_bytes() const override { return thread_bytes_ * static_cast<std::size_t>(threads_); }
  double flops() const override { return 10.0 * static_cast<double>(nest_.elements() * n_); }

  void run(const KernelArgs& args, ThreadPool& pool) const override {
    pool.run(pieces_, [&](std::int64_t piece, int thread) {
      auto* buffer =
          reinterpret_cast<float*>(args.scratch + thread_bytes_ * static_cast<std::size_t>(thread));
      const Range range = split(units_, pieces_, piece);
      Cursor cursor(nest_, range.begin / blocks_);
      for (std::int64_t u = range.begin; u < range.end; ++u) {
        const std::int64_t first = u % blocks_ * columns_;
        const auto* x = at(args.inputs[0], cursor.offset[1] + first * nest_.step(1), size_of(x_.dtype));
        auto* y = at(args.outputs[0], cursor.offset[0] + first * nest_.step(0), size_of(y_.dtype));
        if (across_) {
          run_columns(x, y, std::min(columns_, nest_.inner() - first), buffer);
        } else {
          run_row(x, y, buffer);
        }
        if (u % blocks_ == blocks_ - 1) cursor.advance();
      }
    });
  }

 private:
  void run_row(const std::byte* from, std::byte* to, float* buffer) const {
    const float* x = reinterpret_cast<const float*>(from);
    if (!read_) {
      load_floats(*micro_, x_.dtype, from, sx_, n_, buffer);
      x = buffer;
    }
    float* y = write_ ? reinterpret_cast<float*>(to) : buffer;
    const float most = micro_->maximum(x, n_);
    if (log_) {
      const float sum = micro_->exp_sum(x, most, n_), shift = std::log(sum);
      micro_->normalize(x, most, 1.0f, nullptr, nullptr, y, n_);
      micro_->scale_shift(y, 1.0f, -shift, y, n_);
    } else {
      const float sum = micro_->exp_minus(x, most, y, n_);
      micro_->scale_shift(y, 1.0f / sum, 0.0f, y, n_);
    }
    if (!write_) store_floats(*micro_, y_.dtype, y, to, sy_, n_);
  }

  // Of n columns, whose rows are n elements that lie next to each other.
  void run_columns(const std::byte* x, std::byte* y, std::int64_t n, float* buffer) const {
    float* const peak = buffer + n_ * columns_;
    float *const sum = peak + columns_, *const part = sum + columns_;
    for (std::int64_t i = 0; i < n_; ++i) {
      float* const row = buffer + i * columns_;
      load_floats(*micro_, x_.dtype, at(x, i * sx_, size_of(x_.dtype)), 1, n, row);
      if (i == 0) {
        std::copy_n(row, n, peak);
      } else {
        micro_->max_into(row, peak, n);
      }
    }
    std::fill_n(sum, n, 0.0f);
    for (std::int64_t begin = 0; begin < n_; begin += kSummed) {
      std::fill_n(part, n, 0.0f);
      for (std::int64_t i = begin; i < std::min(begin + kSummed, n_); ++i)
        add_weights(buffer + i * columns_, peak, part, n);
      micro_->add_into(part, sum, n);
    }
    micro_->unary(log_ ? ExprOp::kLog : ExprOp::kReciprocal, sum, part, n);
    for (std::int64_t i = 0; i < n_; ++i) {
      float* const row = buffer + i * columns_;
      micro_->binary(log_ ? ExprOp::kSub : ExprOp::kMul, row, part, row, n);
      store_floats(*micro_, y_.dtype, row, at(y, i * sy_, size_of(y_.dtype)), 1, n);
    }
  }

  // Leaves the exponentials, or for logarithms what they are of.
  void add_weights(float* row, const float* peak, float* sums, std::int64_t n) const {
    float powers[kMostColumns];
    micro_->binary(ExprOp::kSub, row, peak, row, n);
    float* const to = log_ ? powers : row;
    micro_->unary(ExprOp::kExp, row, to, n);
    micro_->add_into(to, sums, n);
  }

  const Micro* micro_;
  TensorDesc x_, y_;
  Nest nest_;
  int threads_;
  bool log_ = false, read_ = false, write_ = false, across_ = false;
  std::int64_t n_ = 1, sx_ = 1, sy_ = 1, columns_ = 1, blocks_ = 1, units_ = 0, pieces_ = 0;
  std::size_t thread_bytes_ = 0;
};

}  // namespace

KernelPtr make_softmax(const KernelRequest& request) { return std::make_unique<Softmax>(request); }

}  // namespace npu::cpu
