#include "core/geometry/axis.h"
#include "cpu/element.h"
#include "cpu/ops/ops.h"
#include "cpu/strided.h"

namespace npu::cpu {

namespace {

// Neighbouring rows that advance together: 1000x1000 takes 0.23 ms, with 4 0.71, with 512 0.18 (AVX-512).
constexpr std::int64_t kColumns = 64;

class Scan : public HostKernel {
 public:
  explicit Scan(const KernelRequest& r)
      : micro_(&micro()),
        x_dtype_(r.inputs[0].dtype),
        y_dtype_(r.outputs[0].dtype),
        product_(std::get<ScanAttrs>(r.op.attrs).kind == ScanAttrs::Kind::kProd) {
    const AxisCut cut = cut_axis(std::get<ScanAttrs>(r.op.attrs).axis, {&r.outputs[0], &r.inputs[0]});
    n_ = cut.extent;
    sy_ = cut.steps[0];
    sx_ = cut.steps[1];
    nest_ = cut.rows;
    columns_ = sx_ == 1 ? 1 : std::min(kColumns, std::max<std::int64_t>(nest_.inner(), 1));
    blocks_ = (nest_.inner() + columns_ - 1) / columns_;
    pieces_ = piece_count(nest_.rows * blocks_, 2 * static_cast<double>(n_ * columns_), r.threads);
  }

  std::string name() const override { return product_ ? "scan[prod]" : "scan[sum]"; }

  void run(const KernelArgs& args, ThreadPool& pool) const override {
    pool.run(pieces_, [&](std::int64_t piece, int) {
      const Range range = split(nest_.rows * blocks_, pieces_, piece);
      Cursor cursor(nest_, range.begin / blocks_);
      for (std::int64_t u = range.begin; u < range.end; ++u) {
        const std::int64_t first = u % blocks_ * columns_;
        const void* x = at(args.inputs[0], cursor.offset[1] + first * nest_.step(1), size_of(x_dtype_));
        void* y = at(args.outputs[0], cursor.offset[0] + first * nest_.step(0), size_of(y_dtype_));
        run_block(x, y, std::min(columns_, nest_.inner() - first));
        if (u % blocks_ == blocks_ - 1) cursor.advance();
      }
    });
  }

 private:
  void run_block(const void* x, void* y, std::int64_t columns) const {
    visit_dtype(x_dtype_, [&](auto zero) {
      using T = decltype(zero);
      if constexpr (kIsFloat<T>) {
        if (!product_ && sx_ == 1 && sy_ == 1) return running_sums(x, y);
        if constexpr (!std::is_same_v<T, float>) return scan_halves(x, y, columns);
        scan<T, T, double>(static_cast<const T*>(x), static_cast<T*>(y), columns);
      } else {  // unsigned, to wrap
        scan<T, std::int64_t, std::uint64_t>(static_cast<const T*>(x), static_cast<std::int64_t*>(y),
                                             columns);
      }
    });
  }

  // Of one row, a block at a time unless it is float32.
  void running_sums(const void* x, void* y) const {
    float from[kExprBlock], to[kExprBlock];
    double before = 0;
    if (x_dtype_ == DType::kFloat32) {
      micro_->running_sum(static_cast<const float*>(x), before, static_cast<float*>(y), n_);
      return;
    }
    for (std::int64_t i = 0; i < n_; i += kExprBlock) {
      const std::int64_t n = std::min(kExprBlock, n_ - i);
      load_floats(*micro_, x_dtype_, at(x, i, size_of(x_dtype_)), 1, n, from);
      before = micro_->running_sum(from, before, to, n);
      store_floats(*micro_, y_dtype_, to, at(y, i, size_of(y_dtype_)), 1, n);
    }
  }

  // Floats of 16 bits, widened a block at a time: elements of one row, or of one step of several.
  void scan_halves(const void* x, void* y, std::int64_t columns) const {
    double totals[kColumns];
    std::fill_n(totals, columns, product_ ? 1.0 : 0.0);
    const bool one = columns == 1;
    const std::int64_t longest = one ? kExprBlock : 1, cx = one ? sx_ : nest_.step(1),
                       cy = one ? sy_ : nest_.step(0);
    float row[kExprBlock];
    for (std::int64_t i = 0; i < n_; i += longest) {
      const std::int64_t n = one ? std::min(longest, n_ - i) : columns;
      load_floats(*micro_, x_dtype_, at(x, i * sx_, size_of(x_dtype_)), cx, n, row);
      for (std::int64_t c = 0; c < n; ++c) {
        double& total = totals[one ? 0 : c];
        const auto value = static_cast<double>(row[c]);
        total = product_ ? total * value : total + value;
        row[c] = static_cast<float>(total);
      }
      store_floats(*micro_, y_dtype_, row, at(y, i * sy_, size_of(y_dtype_)), cy, n);
    }
  }

  template <class T, class Out, class Total>
  void scan(const T* x, Out* y, std::int64_t columns) const {
    Total totals[kColumns];
    std::fill_n(totals, columns, static_cast<Total>(product_ ? 1 : 0));
    const std::int64_t cx = nest_.step(1), cy = nest_.step(0);
    if (columns == 1) return scan_one(x, y, totals[0]);
    for (std::int64_t i = 0; i < n_; ++i) {
      const T* from = x + i * sx_;
      Out* to = y + i * sy_;
      for (std::int64_t c = 0; c < columns; ++c) {
        const auto value = static_cast<Total>(static_cast<Register<T>>(from[c * cx]));
        totals[c] = product_ ? totals[c] * value : totals[c] + value;
        if constexpr (std::is_same_v<Total, double>) {
          to[c * cy] = static_cast<Out>(static_cast<float>(totals[c]));
        } else {
          to[c * cy] = static_cast<Out>(totals[c]);
        }
      }
    }
  }

  template <class T, class Out, class Total>
  void scan_one(const T* x, Out* y, Total total) const {
    for (std::int64_t i = 0; i < n_; ++i) {
      const auto value = static_cast<Total>(static_cast<Register<T>>(x[i * sx_]));
      total = product_ ? total * value : total + value;
      if constexpr (std::is_same_v<Total, double>) {
        y[i * sy_] = static_cast<Out>(static_cast<float>(total));
      } else {
        y[i * sy_] = static_cast<Out>(total);
      }
    }
  }

  const Micro* micro_;
  DType x_dtype_, y_dtype_;
  bool product_;
  Nest nest_;  // of y and x, over the other dimensions
  std::int64_t n_ = 1, sx_ = 1, sy_ = 1, columns_ = 1, blocks_ = 1, pieces_ = 1;
};

}  // namespace

KernelPtr make_scan(const KernelRequest& request) { return std::make_unique<Scan>(request); }

}  // namespace npu::cpu
