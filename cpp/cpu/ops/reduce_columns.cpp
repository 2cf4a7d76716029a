#include <cstring>
#include <limits>

#include "cpu/ops/reduce.h"

namespace npu::cpu {

namespace {

using Kind = ReduceAttrs::Kind;

// Of one unit of work: 2 KB of sums, which stay in the first-level cache.
constexpr std::int64_t kColumns = 512;
// Combined in float32 before a sum goes on in double: for accuracy, at little cost.
constexpr std::int64_t kRows = 64;

// Results that are neighbours, as in a sum over pixels whose channels lie next to each other.
class ColumnReduce : public HostKernel {
 public:
  explicit ColumnReduce(const ReducePlan& plan) : p_(plan), kind_(plan.attrs.kind) {
    blocks_ = (p_.kept.inner() + kColumns - 1) / kColumns;
    units_ = p_.kept.rows * blocks_;
    const double columns = static_cast<double>(std::min(p_.kept.inner(), kColumns));
    pieces_ = piece_count(units_, static_cast<double>(p_.elements) * columns, p_.threads);
    thread_bytes_ = kColumns * (3 * sizeof(float) + sizeof(double)) + kRows * sizeof(std::int64_t);
  }

  std::string name() const override { return p_.name(); }
  std::size_t scratch_bytes() const override { return thread_bytes_ * static_cast<std::size_t>(p_.threads); }
  double flops() const override { return static_cast<double>(p_.results * p_.elements); }

  void run(const KernelArgs& args, ThreadPool& pool) const override {
    pool.run(pieces_, [&](std::int64_t piece, int thread) {
      std::byte* scratch = args.scratch + thread_bytes_ * static_cast<std::size_t>(thread);
      Buffers b;
      b.sums = reinterpret_cast<double*>(scratch);
      b.offsets = reinterpret_cast<std::int64_t*>(b.sums + kColumns);
      b.row = reinterpret_cast<float*>(b.offsets + kRows);
      b.part = b.row + kColumns;
      b.best = b.part + kColumns;
      const Range range = split(units_, pieces_, piece);
      Cursor cursor(p_.kept, range.begin / blocks_);
      for (std::int64_t u = range.begin; u < range.end; ++u) {
        const std::int64_t first = u % blocks_ * kColumns;
        const auto* x = at(args.inputs[0], cursor.offset[1] + first, size_of(p_.x_dtype));
        auto* y = at(args.outputs[0], cursor.offset[0] + first * p_.kept.step(0), size_of(p_.y_dtype));
        const std::int64_t n = std::min(kColumns, p_.kept.inner() - first);
        is_float(p_.x_dtype) ? run_block(x, y, n, b) : run_integers(x, y, n, b);
        if (u % blocks_ == blocks_ - 1) cursor.advance();
      }
    });
  }

 private:
  struct Buffers {
    double* sums;
    std::int64_t* offsets;
    float *row, *part, *best;
  };

  bool sums() const { return kind_ == Kind::kSum || kind_ == Kind::kMean; }

  void run_block(const std::byte* x, std::byte* y, std::int64_t n, const Buffers& b) const {
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    std::fill_n(b.sums, n, 0.0);
    std::fill_n(b.best, n, kind_ == Kind::kMax ? -kInfinity : kInfinity);
    std::int64_t rows = 0;
    Cursor cursor(p_.reduced, 0);
    for (std::int64_t row = 0; row < p_.reduced.rows; ++row, cursor.advance()) {
      for (std::int64_t i = 0; i < p_.reduced.inner(); ++i) {
        b.offsets[rows++] = cursor.offset[0] + i * p_.reduced.step(0);
        if (rows == kRows) add_rows(x, rows, n, b), rows = 0;
      }
    }
    if (rows > 0) add_rows(x, rows, n, b);
    if (sums()) {
      const double divisor = kind_ == Kind::kMean ? static_cast<double>(p_.elements) : 1.0;
      for (std::int64_t i = 0; i < n; ++i) b.best[i] = static_cast<float>(b.sums[i] / divisor);
    }
    store_floats(*p_.micro, p_.y_dtype, b.best, y, p_.kept.step(0), n);
  }

  // Sums are int64, the largest and least are what the elements are. They take the room of the sums and of
  // all that follows the offsets.
  void run_integers(const std::byte* x, std::byte* y, std::int64_t n, const Buffers& b) const {
    auto* const total = reinterpret_cast<std::int64_t*>(b.sums);
    const DType dtype = p_.x_dtype == DType::kBool ? DType::kUInt8 : p_.x_dtype;
    const ExprOp op = kind_ == Kind::kSum ? ExprOp::kAdd : kind_ == Kind::kMax ? ExprOp::kMax : ExprOp::kMin;
    if (sums()) std::fill_n(total, n, 0);
    Cursor cursor(p_.reduced, 0);
    for (std::int64_t r = 0; r < p_.reduced.rows; ++r, cursor.advance()) {
      for (std::int64_t i = 0; i < p_.reduced.inner(); ++i) {
        const auto* from = at(x, cursor.offset[0] + i * p_.reduced.step(0), size_of(dtype));
        if (sums()) {
          p_.micro->fold_row(op, dtype, from, total, n);
        } else if (r == 0 && i == 0) {
          std::memcpy(total, from, static_cast<std::size_t>(n) * size_of(dtype));
        } else {
          integer_steps(*p_.micro, dtype).compute(op, total, from, total, n);
        }
      }
    }
    auto* const wide = reinterpret_cast<std::int64_t*>(b.row);
    if (!sums()) load_integers(dtype, total, 1, n, wide);
    store_integers(p_.y_dtype, sums() ? total : wide, y, p_.kept.step(0), n);
  }

  void add_rows(const std::byte* x, std::int64_t rows, std::int64_t n, const Buffers& b) const {
    if (kind_ != Kind::kMin) {
      const WindowRows all{p_.x_dtype, x, b.offsets, rows};
      sums() ? p_.micro->window_sum(all, 1.0f, b.part, n) : p_.micro->window_max(all, b.part, n);
    } else {
      for (std::int64_t r = 0; r < rows; ++r) {
        const auto* from = at(x, b.offsets[r], size_of(p_.x_dtype));
        const float* row = float_row(*p_.micro, p_.x_dtype, from, 1, n, b.row);
        r == 0 ? void(std::copy_n(row, n, b.part)) : p_.micro->binary(ExprOp::kMin, row, b.part, b.part, n);
      }
    }
    if (sums()) {
      for (std::int64_t i = 0; i < n; ++i) b.sums[i] += static_cast<double>(b.part[i]);
    } else {
      p_.micro->binary(kind_ == Kind::kMax ? ExprOp::kMax : ExprOp::kMin, b.part, b.best, b.best, n);
    }
  }

  ReducePlan p_;
  Kind kind_;
  std::int64_t blocks_ = 0, units_ = 0, pieces_ = 0;
  std::size_t thread_bytes_ = 0;
};

}  // namespace

bool columns_fit(const ReducePlan& p) {
  const Kind kind = p.attrs.kind;
  const bool known = kind == Kind::kSum || kind == Kind::kMean || kind == Kind::kMax || kind == Kind::kMin;
  const bool floats = is_float(p.x_dtype) && is_float(p.y_dtype);
  const bool integers = !is_float(p.x_dtype) && !is_float(p.y_dtype) && kind != Kind::kMean;
  return known && (floats || integers) && p.elements > 0 && p.kept.rows > 0 && p.kept.step(1) == 1 &&
         p.kept.inner() >= 4 && p.reduced.step(0) != 1;
}

KernelPtr make_column_reduce(const ReducePlan& plan) { return std::make_unique<ColumnReduce>(plan); }

}  // namespace npu::cpu
