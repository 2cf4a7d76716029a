// Many products of a few elements each, as they lie: packing one, or choosing a loop for it, would take
// longer than computing it.
#include <algorithm>
#include <optional>

#include "cpu/element.h"
#include "cpu/expression.h"
#include "cpu/ops/matmul.h"
#include "cpu/strided.h"

namespace npu::cpu {

namespace {

constexpr std::int64_t kMost = 64;    // multiplications of one product
constexpr std::int64_t kFewest = 16;  // products

template <class T>
using Sum = std::conditional_t<kIsFloat<T>, float, std::uint64_t>;

template <class T>
class TinyMatmul final : public HostKernel {
 public:
  explicit TinyMatmul(const KernelRequest& r) : threads_(r.threads), first_extra_(r.inputs.size()) {
    const TensorDesc &a = r.inputs[0], &b = r.inputs[1], &y = r.outputs[0];
    const std::size_t last = y.shape.size() - 1;
    rows_ = y.shape[last - 1];
    columns_ = y.shape[last];
    depth_ = a.shape[last];
    left_ = {a.strides[last - 1], a.strides[last]};
    right_ = {b.strides[last - 1], b.strides[last]};
    const auto batch = [&](const Shape& x) { return Shape(x.begin(), x.end() - 2); };
    std::vector<Shape> strides = {batch(y.strides), batch(a.strides), batch(b.strides)};
    out_ = positions(y);
    const Expr& epilogue = std::get<MatmulAttrs>(r.op.attrs).epilogue;
    if (!epilogue.empty()) {
      std::vector<DType> dtypes = {DType::kFloat32};
      first_extra_ = first_extra(OpKind::kMatmul);
      for (const TensorDesc& extra : extras_of(r)) {
        strides.push_back(batch(extra.strides));
        extras_.push_back(positions(extra));
        dtypes.push_back(extra.dtype);
      }
      expression_.emplace(epilogue, dtypes, y.dtype);
    }
    nest_ = make_nest(batch(y.shape), strides);
    at_once_ = std::max<std::int64_t>(1, kExprBlock / (rows_ * columns_));
    pieces_ = piece_count(nest_.elements(), static_cast<double>(4 + rows_ * columns_ * depth_), threads_);
    if (expression_) {
      thread_bytes_ = kExprBlock * (sizeof(float) + (1 + extras_.size()) * sizeof(std::int64_t)) +
                      round_up(expression_->scratch_bytes());
    }
  }

  std::string name() const override { return expression_ ? "matmul[tiny +map]" : "matmul[tiny]"; }
  std::size_t scratch_bytes() const override { return thread_bytes_ * static_cast<std::size_t>(threads_); }
  double flops() const override {
    return 2.0 * static_cast<double>(nest_.elements() * rows_ * columns_ * depth_);
  }

  void run(const KernelArgs& args, ThreadPool& pool) const override {
    pool.run(pieces_, [&](std::int64_t piece, int thread) {
      const Range range = split(nest_.elements(), pieces_, piece);
      if constexpr (kIsFloat<T>) {
        if (expression_) {
          return run_finished(args, range, args.scratch + thread_bytes_ * static_cast<std::size_t>(thread));
        }
      }
      Batches at(nest_, range.begin);
      for (std::int64_t u = range.begin; u < range.end; ++u, at.advance())
        multiply(args, at, static_cast<T*>(args.outputs[0]) + at.offset(0), out_.data());
    });
  }

 private:
  struct Steps {
    std::int64_t row, column;
  };

  // Walks the products one by one.
  class Batches {
   public:
    Batches(const Nest& nest, std::int64_t first)
        : nest_(nest), cursor_(nest, first / nest.inner()), i_(first % nest.inner()) {}
    std::int64_t offset(int operand) const { return cursor_.offset[operand] + i_ * nest_.step(operand); }
    void advance() {
      if (++i_ == nest_.inner()) cursor_.advance(), i_ = 0;
    }

   private:
    const Nest& nest_;
    Cursor cursor_;
    std::int64_t i_;
  };

  // Where the results of one product, or what belongs to them, lie.
  std::vector<std::int64_t> positions(const TensorDesc& x) const {
    const std::size_t last = x.strides.size() - 1;
    std::vector<std::int64_t> all;
    for (std::int64_t m = 0; m < rows_; ++m) {
      for (std::int64_t n = 0; n < columns_; ++n)
        all.push_back(m * x.strides[last - 1] + n * x.strides[last]);
    }
    return all;
  }

  // to[at[i]], or to[i] without `at`, is the i-th result.
  template <class Y>
  void multiply(const KernelArgs& args, const Batches& batch, Y* to, const std::int64_t* at) const {
    const T* a = static_cast<const T*>(args.inputs[0]) + batch.offset(1);
    const T* const b = static_cast<const T*>(args.inputs[1]) + batch.offset(2);
    std::int64_t i = 0;
    for (std::int64_t m = 0; m < rows_; ++m, a += left_.row) {
      for (std::int64_t n = 0; n < columns_; ++n, ++i) {
        const T* const column = b + n * right_.column;
        Sum<T> sum = 0;
        for (std::int64_t k = 0; k < depth_; ++k)
          sum += static_cast<Sum<T>>(a[k * left_.column]) * static_cast<Sum<T>>(column[k * right_.row]);
        to[at ? at[i] : i] = static_cast<Y>(sum);
      }
    }
  }

  // The sums of as many products as fill a block, then the epilogue over them.
  void run_finished(const KernelArgs& args, Range range, std::byte* scratch) const {
    const std::size_t count = extras_.size(), size = out_.size();
    auto* const sums = reinterpret_cast<float*>(scratch);
    auto* const starts = reinterpret_cast<std::int64_t*>(sums + kExprBlock);  // of results, then of extras
    std::byte* const rest = reinterpret_cast<std::byte*>(starts + (1 + count) * kExprBlock);
    const void* operands[kMaxExtras + 1] = {sums};
    const std::int64_t* listed[kMaxExtras + 1] = {};
    std::int64_t row_strides[kMaxExtras + 1] = {1}, strides[kMaxExtras + 1] = {1};
    for (std::size_t e = 0; e < count; ++e) {
      operands[e + 1] = args.inputs[first_extra_ + e];
      listed[e + 1] = starts + (e + 1) * kExprBlock;
    }
    Batches at(nest_, range.begin);
    for (std::int64_t u = range.begin; u < range.end;) {
      const std::int64_t most = std::min(at_once_, range.end - u);
      std::size_t done = 0;
      for (std::int64_t j = 0; j < most; ++j, ++u, done += size, at.advance()) {
        multiply(args, at, sums + done, nullptr);
        list(starts + done, at.offset(0), out_);
        for (std::size_t e = 0; e < count; ++e)
          list(starts + (e + 1) * kExprBlock + done, at.offset(static_cast<int>(e) + 3), extras_[e]);
      }
      expression_->begin(rest, static_cast<std::int64_t>(done));
      expression_->run_tile({.rows = static_cast<std::int64_t>(done),
                             .n = 1,
                             .operands = operands,
                             .row_strides = row_strides,
                             .strides = strides,
                             .starts = listed,
                             .out = args.outputs[0],
                             .out_starts = starts},
                            rest);
    }
  }

  static void list(std::int64_t* to, std::int64_t first, const std::vector<std::int64_t>& positions) {
    for (const std::int64_t position : positions) *to++ = first + position;
  }

  Nest nest_;  // of y, a, b and the extras, over the batches
  std::int64_t rows_ = 0, columns_ = 0, depth_ = 0, at_once_ = 1, pieces_ = 0;
  int threads_ = 1;
  std::size_t first_extra_ = 0;
  Steps left_{}, right_{};
  std::vector<std::int64_t> out_;                  // positions of a product's results
  std::vector<std::vector<std::int64_t>> extras_;  // and of what the epilogue reads
  std::optional<Expression> expression_;
  std::size_t thread_bytes_ = 0;
};

}  // namespace

bool tiny_products(const KernelRequest& r) {
  const MatmulGeometry g = geometry_of(r);
  const auto& attrs = std::get<MatmulAttrs>(r.op.attrs);
  const bool bias = r.inputs.size() > 2 && r.inputs[2].present();
  return !g.shared && g.batches >= kFewest && g.rows * g.columns * g.depth <= kMost &&
         g.rows * g.columns * g.depth > 0 && !bias && !attrs.halves && extras_of(r).size() <= kMaxExtras;
}

KernelPtr make_matmul_tiny(const KernelRequest& r) {
  return visit_dtype(r.outputs[0].dtype, [&](auto zero) -> KernelPtr {
    using T = decltype(zero);
    if constexpr (std::is_same_v<T, bool>) {
      return nullptr;  // no products of bools: op_check.cpp
    } else {
      return std::make_unique<TinyMatmul<T>>(r);
    }
  });
}

}  // namespace npu::cpu
