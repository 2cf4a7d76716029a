// Products with few rows, over weights as they lie, each read once for all rows: dot products where these lie
// along the depth, sums of their rows where they lie across.
#include <algorithm>

#include "cpu/ops/row_results.h"

namespace npu::cpu {

namespace {

class MatmulRows final : public HostKernel {
 public:
  explicit MatmulRows(const KernelRequest& r) : r_(r), g_(geometry_of(r)), micro_(&micro()), results_(r, g_) {
    const TensorDesc &a = r.inputs[0], &b = r.inputs[1];
    copies_ = g_.columns == 1 && g_.right_depth != 1;
    along_ = g_.right_depth == 1 || copies_;
    pairs_ = along_ && !copies_ && multiplies_pairs(*micro_, a.dtype, b.dtype);
    gemv_ = pairs_                                  ? micro_->gemv_pairs
            : copies_ || b.dtype == DType::kFloat32 ? micro_->gemv_f32
            : b.dtype == DType::kBFloat16           ? micro_->gemv_bf16
                                                    : micro_->gemv_f16;
    weigh_ = b.dtype == DType::kFloat32    ? micro_->weigh_f32
             : b.dtype == DType::kBFloat16 ? micro_->weigh_bf16
                                           : micro_->weigh_f16;
    in_place_ = g_.left_depth == 1 && (pairs_ || a.dtype == DType::kFloat32);
    pieces_ = results_.pieces(static_cast<double>(g_.depth) * static_cast<double>(size_of(b.dtype)));
    const std::size_t x_bytes = static_cast<std::size_t>(g_.rows * g_.depth) * (pairs_ ? 2 : sizeof(float));
    x_bytes_ = round_up(x_bytes);
    const auto sums = static_cast<std::size_t>(results_.sums_per_result() * g_.depth);
    column_bytes_ = copies_ ? round_up(sums * sizeof(float)) : 0;
    scratch_ = x_bytes_ + column_bytes_ + results_.scratch_bytes();
  }

  std::string name() const override {
    return std::string(pairs_   ? "matmul[rows of pairs "
                       : along_ ? "matmul[rows "
                                : "matmul[rows across ") +
           micro_->name + (results_.maps() ? " +map]" : "]");
  }
  std::size_t scratch_bytes() const override { return scratch_ * static_cast<std::size_t>(r_.threads); }
  double flops() const override { return results_.flops(); }

  void run(const KernelArgs& args, ThreadPool& pool) const override {
    if (g_.rows * g_.columns * g_.batches == 0) return;
    const auto pieces = static_cast<std::int64_t>(pieces_.size());
    pool.run(g_.batches * pieces, [&](std::int64_t piece, int thread) {
      std::byte* const scratch = args.scratch + scratch_ * static_cast<std::size_t>(thread);
      const std::int64_t batch = piece / pieces;
      const Range range = pieces_[static_cast<std::size_t>(piece % pieces)];
      GemvCall call;
      call.rows = static_cast<int>(g_.rows);
      call.depth = g_.depth;
      call.stride = along_ ? g_.right_column : g_.right_depth;
      call.out = reinterpret_cast<float*>(scratch + x_bytes_ + column_bytes_);
      call.out_stride = results_.sums_stride();
      find_rows(args, batch, scratch, call);
      const std::int64_t end = std::min(range.end * RowResults::kGroup, g_.columns);
      for (std::int64_t column = range.begin * RowResults::kGroup; column < end;
           column += RowResults::kChunk) {
        run_chunk(args, batch, column, std::min(RowResults::kChunk, end - column), call);
      }
    });
  }

 private:
  // The rows where they lie, or a copy of them.
  void find_rows(const KernelArgs& args, std::int64_t batch, std::byte* copy, GemvCall& call) const {
    const TensorDesc& a = r_.inputs[0];
    const auto offset = [&](std::int64_t i) {
      return row_offset(r_.outputs[0].shape, a.strides, batch * g_.rows + i);
    };
    const std::int64_t first = offset(0), step = g_.rows > 1 ? offset(1) - first : g_.depth;
    bool even = in_place_;
    for (std::int64_t i = 2; i < g_.rows; ++i) even = even && offset(i) == first + i * step;
    call.x = even ? element(args.inputs[0], a.dtype, first) : copy;
    call.x_stride = even ? step : g_.depth;
    for (std::int64_t i = 0; i < g_.rows && !even; ++i) {
      const std::byte* const row = element(args.inputs[0], a.dtype, offset(i));
      if (pairs_) {
        copy_row(copy + i * g_.depth * 2, 1, row, g_.left_depth, g_.depth, 2);
      } else {
        load_row(a.dtype, row, g_.left_depth, reinterpret_cast<float*>(copy) + i * g_.depth, g_.depth);
      }
    }
  }

  void run_chunk(const KernelArgs& args, std::int64_t batch, std::int64_t column, std::int64_t n,
                 GemvCall call) const {
    const TensorDesc& b = r_.inputs[1];
    float* const sums = call.out;
    call.columns = n;
    for (std::int64_t half = 0; half < results_.sums_per_result(); ++half) {
      const std::int64_t first = half * g_.columns + column;
      call.w = element(args.inputs[1], b.dtype, right_offset(r_, g_, batch) + first * g_.right_column);
      if (copies_) {  // the one column
        float* const copy = sums - column_bytes_ / sizeof(float);
        load_row(b.dtype, call.w, g_.right_depth, copy, g_.depth);
        call.w = copy;
      }
      call.out = sums + half * RowResults::kChunk;
      if (along_) {
        gemv_(call);
      } else {
        add_rows(call);
      }
    }
    results_.finish(args, batch, column, n, sums);
  }

  // A few rows of weights at a time, as many as are read well side by side.
  void add_rows(const GemvCall& call) const {
    constexpr std::int64_t kRows = 16;  // 8 to 32 are level for 2048x2048
    WeighCall step;
    step.rows = call.rows;
    step.width = call.columns;
    step.weights_stride = call.x_stride;
    step.stride = call.stride;
    step.sums = call.out;
    step.sums_stride = call.out_stride;
    for (std::int64_t i = 0; i < call.rows; ++i)
      std::fill_n(call.out + i * call.out_stride, call.columns, 0.0f);
    for (std::int64_t k = 0; k < call.depth; k += kRows) {
      step.count = std::min(kRows, call.depth - k);
      step.weights = static_cast<const float*>(call.x) + k;
      step.values = element(call.w, r_.inputs[1].dtype, k * call.stride);
      weigh_(step);
    }
  }

  KernelRequest r_;
  MatmulGeometry g_;
  const Micro* micro_;
  RowResults results_;
  void (*gemv_)(const GemvCall&) = nullptr;
  void (*weigh_)(const WeighCall&) = nullptr;
  bool along_ = true, pairs_ = false, in_place_ = false;
  bool copies_ = false;        // a column that does not lie along the depth
  std::vector<Range> pieces_;  // of the groups of columns
  std::size_t x_bytes_ = 0, column_bytes_ = 0, scratch_ = 0;
};

KernelRequest transposed(const KernelRequest& r) {
  KernelRequest t = r;
  std::swap(t.inputs[0], t.inputs[1]);
  const auto swap_last = [](TensorDesc& x) {
    const std::size_t rank = x.shape.size();
    if (rank < 2) return;
    std::swap(x.shape[rank - 2], x.shape[rank - 1]);
    std::swap(x.strides[rank - 2], x.strides[rank - 1]);
  };
  for (TensorDesc& x : t.inputs) swap_last(x);
  for (TensorDesc& x : t.outputs) swap_last(x);
  return t;
}

// A matrix times a vector is the vector, as a row, times the matrix as it lies.
class MatmulColumn final : public HostKernel {
 public:
  explicit MatmulColumn(const KernelRequest& r) : rows_(transposed(r)), inputs_(r.inputs.size()) {}
  std::string name() const override { return rows_.name(); }
  std::size_t scratch_bytes() const override { return rows_.scratch_bytes(); }
  double flops() const override { return rows_.flops(); }
  void run(const KernelArgs& args, ThreadPool& pool) const override {
    const void* inputs[kMaxExtras + 8];  // and those that have names
    std::copy_n(args.inputs, inputs_, inputs);
    std::swap(inputs[0], inputs[1]);
    rows_.run({inputs, args.outputs, args.scratch, nullptr}, pool);
  }

 private:
  MatmulRows rows_;
  std::size_t inputs_;
};

}  // namespace

bool few_rows(const KernelRequest& request) {
  const MatmulGeometry g = geometry_of(request);
  const TensorDesc& b = request.inputs[1];
  if (g.rows > kGemvRows || g.depth == 0) return false;
  const bool packed = g.shared && b.constant && b.dtype == DType::kFloat32;
  return g.right_depth == 1 || ((g.right_column == 1 || g.columns == 1) && !packed);
}

bool one_column(const KernelRequest& request) {
  const MatmulGeometry g = geometry_of(request);
  if (g.columns != 1 || g.rows <= kGemvRows || std::get<MatmulAttrs>(request.op.attrs).halves) return false;
  return few_rows(transposed(request));
}

KernelPtr make_matmul_column(const KernelRequest& request) { return std::make_unique<MatmulColumn>(request); }

KernelPtr make_matmul_rows(const KernelRequest& request) { return std::make_unique<MatmulRows>(request); }

}  // namespace npu::cpu
