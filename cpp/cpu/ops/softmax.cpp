#include <cmath>

#include "core/geometry/axis.h"
#include "cpu/element.h"
#include "cpu/ops/ops.h"
#include "cpu/strided.h"

namespace npu::cpu {

namespace {

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
    units_ = n_ == 0 ? 0 : nest_.elements();
    pieces_ = piece_count(units_, 5 * static_cast<double>(n_), threads_);
    if (!read_ || !write_) thread_bytes_ = round_up(static_cast<std::size_t>(n_) * sizeof(float));
  }

  std::string name() const override { return log_ ? "softmax[log]" : "softmax"; }
  std::size_t scratch_bytes() const override { return thread_bytes_ * static_cast<std::size_t>(threads_); }
  double flops() const override { return 10.0 * static_cast<double>(units_ * n_); }

  void run(const KernelArgs& args, ThreadPool& pool) const override {
    pool.run(pieces_, [&](std::int64_t piece, int thread) {
      auto* buffer =
          reinterpret_cast<float*>(args.scratch + thread_bytes_ * static_cast<std::size_t>(thread));
      const Range range = split(units_, pieces_, piece);
      const std::int64_t inner = nest_.inner();
      Cursor cursor(nest_, range.begin / inner);
      for (std::int64_t u = range.begin; u < range.end; ++u) {
        const std::int64_t i = u % inner;
        run_row(at(args.inputs[0], cursor.offset[1] + i * nest_.step(1), size_of(x_.dtype)),
                at(args.outputs[0], cursor.offset[0] + i * nest_.step(0), size_of(y_.dtype)), buffer);
        if (i == inner - 1) cursor.advance();
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

  const Micro* micro_;
  TensorDesc x_, y_;
  Nest nest_;
  int threads_;
  bool log_ = false, read_ = false, write_ = false;
  std::int64_t n_ = 1, sx_ = 1, sy_ = 1, units_ = 0, pieces_ = 0;
  std::size_t thread_bytes_ = 0;
};

}  // namespace

KernelPtr make_softmax(const KernelRequest& request) { return std::make_unique<Softmax>(request); }

}  // namespace npu::cpu
