#include "cpu/ops/reduce.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace npu::cpu {

namespace {

using Kind = ReduceAttrs::Kind;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// One result after the other.
class Reduce : public HostKernel {
 public:
  explicit Reduce(const ReducePlan& plan) : p_(plan), kind_(plan.attrs.kind) {
    units_ = p_.results;
    pieces_ = piece_count(units_, static_cast<double>(p_.elements), p_.threads);
    thread_bytes_ = kExprBlock * (sizeof(float) + sizeof(std::int64_t));
    const bool simple = sums() || kind_ == Kind::kMax || kind_ == Kind::kMin || kind_ == Kind::kProd;
    plain_ = simple && is_float(p_.x_dtype) && p_.reduced.rows == 1 && p_.reduced.step(0) == 1 &&
             (p_.x_dtype == DType::kFloat32 || sums() || p_.reduced.inner() <= kExprBlock);
  }

  std::string name() const override { return p_.name(); }
  std::size_t scratch_bytes() const override { return thread_bytes_ * static_cast<std::size_t>(p_.threads); }
  double flops() const override { return static_cast<double>(units_ * p_.elements); }

  void run(const KernelArgs& args, ThreadPool& pool) const override {
    pool.run(pieces_, [&](std::int64_t piece, int thread) {
      std::byte* scratch = args.scratch + thread_bytes_ * static_cast<std::size_t>(thread);
      const Range range = split(units_, pieces_, piece);
      const std::int64_t width = p_.kept.inner();
      Cursor cursor(p_.kept, range.begin / width);
      std::int64_t i = range.begin % width;
      for (std::int64_t u = range.begin; u < range.end; ++u) {
        const auto* x = at(args.inputs[0], cursor.offset[1] + i * p_.kept.step(1), size_of(p_.x_dtype));
        auto* y = at(args.outputs[0], cursor.offset[0] + i * p_.kept.step(0), size_of(p_.y_dtype));
        if (plain_) {
          store_float(plain(x, reinterpret_cast<float*>(scratch)), y);
        } else if (is_float(p_.x_dtype)) {
          floats(x, y, reinterpret_cast<float*>(scratch));
        } else {
          integers(x, y, reinterpret_cast<std::int64_t*>(scratch));
        }
        if (++i == width) cursor.advance(), i = 0;
      }
    });
  }

 private:
  bool sums() const { return kind_ == Kind::kSum || kind_ == Kind::kMean; }

  // Of one row: many are short.
  double plain(const std::byte* x, float* buffer) const {
    const std::int64_t n = p_.reduced.inner();
    if (sums()) {
      const double sum = p_.micro->sum_stored(p_.x_dtype, x, n);
      return kind_ == Kind::kSum ? sum : sum / static_cast<double>(n);
    }
    const float* const row = float_row(*p_.micro, p_.x_dtype, x, 1, n, buffer);
    if (kind_ == Kind::kProd) return p_.micro->product(row, n);
    if (kind_ == Kind::kMax) return static_cast<double>(p_.micro->maximum(row, n));
    return static_cast<double>(p_.micro->minimum(row, n));
  }

  // Calls f(row, n, position of its first element) for all elements of a result.
  template <class T, class F>
  void each_row(const std::byte* x, T* buffer, const F& f) const {
    if (p_.reduced.rows == 0) return;
    const std::int64_t n = p_.reduced.inner(), step = p_.reduced.step(0);
    const std::int64_t longest = p_.x_dtype == DType::kFloat32 && step == 1 ? n : kExprBlock;
    Cursor cursor(p_.reduced, 0);
    for (std::int64_t row = 0; row < p_.reduced.rows; ++row, cursor.advance()) {
      for (std::int64_t i = 0; i < n; i += longest) {
        const std::int64_t m = std::min(longest, n - i);
        const auto* from = at(x, cursor.offset[0] + i * step, size_of(p_.x_dtype));
        if constexpr (std::is_same_v<T, float>) {
          f(float_row(*p_.micro, p_.x_dtype, from, step, m, buffer), m, row * n + i);
        } else {
          load_integers(p_.x_dtype, from, step, m, buffer);
          f(static_cast<const T*>(buffer), m, row * n + i);
        }
      }
    }
  }

  template <class T, class A, class F>
  A fold(const std::byte* x, T* buffer, A start, F f) const {
    A result = start;
    each_row(x, buffer, [&](const T* row, std::int64_t n, std::int64_t) {
      for (std::int64_t i = 0; i < n; ++i) result = f(result, row[i]);
    });
    return result;
  }

  // The first of the largest, or least; a NaN is both.
  std::int64_t extreme_position(const std::byte* x, float* buffer) const {
    std::int64_t best = 0;
    float value = 0;
    const bool largest = kind_ == Kind::kArgmax;
    each_row(x, buffer, [&](const float* row, std::int64_t n, std::int64_t first) {
      const float most = largest ? p_.micro->maximum(row, n) : p_.micro->minimum(row, n);
      const bool better = (largest ? most > value : most < value) || most != most;
      if (first > 0 && (value != value || !better)) return;
      value = most;
      best = first + (std::find_if(row, row + n, [=](float v) { return v == most || v != v; }) - row);
    });
    return best;
  }

  double sum(const std::byte* x, float* buffer) const {
    double total = 0;
    each_row(x, buffer,
             [&](const float* row, std::int64_t n, std::int64_t) { total += p_.micro->sum(row, n); });
    return total;
  }

  double variance(const std::byte* x, float* buffer) const {
    const double count = static_cast<double>(p_.elements);
    float first = 0;
    double above = 0, squares = 0;
    if (p_.elements > 0) load_floats(*p_.micro, p_.x_dtype, x, 1, 1, &first);
    each_row(x, buffer, [&](const float* row, std::int64_t n, std::int64_t) {
      above += p_.micro->sum_around(row, first, n);
    });
    const double exact = static_cast<double>(first) + above / count;
    const auto mean = static_cast<float>(exact);
    each_row(x, buffer, [&](const float* row, std::int64_t n, std::int64_t) {
      squares += p_.micro->sum_squares(row, mean, n);
    });
    // Of a large mean, what rounding took is not small beside the variance.
    const double rounded = exact - static_cast<double>(mean);
    if (count * rounded * rounded < squares) squares -= count * rounded * rounded;
    if (kind_ == Kind::kStd && !(squares > 1e-30 && squares < static_cast<double>(kInfinity))) {
      squares = wide_squares(x, buffer);
    }
    return squares / std::max(count - p_.attrs.correction, 0.0);
  }

  // For numbers whose squares overflow float32, though the root of their sum does not.
  double wide_squares(const std::byte* x, float* buffer) const {
    const double sum = fold(x, buffer, 0.0, [](double a, float v) { return a + static_cast<double>(v); });
    const double mean = sum / static_cast<double>(p_.elements);
    return fold(x, buffer, 0.0, [mean](double a, float v) {
      const double d = static_cast<double>(v) - mean;
      return a + d * d;
    });
  }

  template <class T>
  bool any_or_all(const std::byte* x, T* buffer) const {
    const bool any = kind_ == Kind::kAny;
    return fold(x, buffer, !any,
                [any](bool so_far, T v) { return any ? so_far || v != 0 : so_far && v != 0; });
  }

  void floats(const std::byte* x, std::byte* y, float* buffer) const {
    switch (kind_) {
      case Kind::kSum:
        return store_float(sum(x, buffer), y);
      case Kind::kMean:
        return store_float(sum(x, buffer) / static_cast<double>(p_.elements), y);
      case Kind::kVar:
        return store_float(variance(x, buffer), y);
      case Kind::kStd:
        return store_float(std::sqrt(variance(x, buffer)), y);
      case Kind::kProd: {
        double product = 1;
        each_row(x, buffer, [&](const float* row, std::int64_t n, std::int64_t) {
          product *= p_.micro->product(row, n);
        });
        return store_float(product, y);
      }
      case Kind::kMax: {
        float most = -kInfinity;
        each_row(x, buffer, [&](const float* row, std::int64_t n, std::int64_t) {
          const float m = p_.micro->maximum(row, n);
          if (m > most || m != m) most = m;
        });
        return store_float(static_cast<double>(most), y);
      }
      case Kind::kMin: {
        float least = kInfinity;
        each_row(x, buffer, [&](const float* row, std::int64_t n, std::int64_t) {
          const float m = p_.micro->minimum(row, n);
          if (m < least || m != m) least = m;
        });
        return store_float(static_cast<double>(least), y);
      }
      case Kind::kAny:
      case Kind::kAll:
        return store_integer(any_or_all(x, buffer), y);
      default:
        return store_integer(extreme_position(x, buffer), y);
    }
  }

  // Calls f(dtype, row, n, position of its first element), with elements as they are stored where these lie
  // next to each other, else as int64.
  template <class F>
  void each_stored_row(const std::byte* x, std::int64_t* buffer, const F& f) const {
    if (p_.reduced.rows > 0 && p_.reduced.step(0) == 1) {
      const std::int64_t n = p_.reduced.inner();
      Cursor cursor(p_.reduced, 0);
      for (std::int64_t row = 0; row < p_.reduced.rows; ++row, cursor.advance()) {
        f(p_.x_dtype, at(x, cursor.offset[0], size_of(p_.x_dtype)), n, row * n);
      }
      return;
    }
    each_row(x, buffer, [&](const std::int64_t* row, std::int64_t n, std::int64_t first) {
      f(DType::kInt64, reinterpret_cast<const std::byte*>(row), n, first);
    });
  }

  std::int64_t fold_stored(ExprOp op, const std::byte* x, std::int64_t* buffer, std::int64_t start) const {
    if (p_.reduced.rows == 1 && p_.reduced.step(0) == 1)  // many rows are short
      return p_.micro->fold_integers(op, p_.x_dtype, x, p_.reduced.inner(), start);
    std::int64_t result = start;
    each_stored_row(x, buffer, [&](DType dtype, const std::byte* row, std::int64_t n, std::int64_t) {
      const std::int64_t part = p_.micro->fold_integers(op, dtype, row, n, result);
      result = op == ExprOp::kMax   ? std::max(result, part)
               : op == ExprOp::kMin ? std::min(result, part)
                                    : part;
    });
    return result;
  }

  // The first of the largest, or least.
  std::int64_t integer_position(const std::byte* x, std::int64_t* buffer) const {
    std::int64_t best = 0, value = 0;
    const bool largest = kind_ == Kind::kArgmax;
    each_stored_row(x, buffer, [&](DType dtype, const std::byte* row, std::int64_t n, std::int64_t first) {
      const std::int64_t most =
          p_.micro->fold_integers(largest ? ExprOp::kMax : ExprOp::kMin, dtype, row, n, value);
      if (n == 0 || (first > 0 && !(largest ? most > value : most < value))) return;
      value = most;
      visit_dtype(dtype, [&](auto zero) {
        using T = std::conditional_t<std::is_same_v<decltype(zero), bool>, std::uint8_t, decltype(zero)>;
        const T* const begin = reinterpret_cast<const T*>(row);
        if constexpr (!kIsFloat<T>)
          best = first + (std::find(begin, begin + n, static_cast<T>(most)) - begin);
      });
    });
    return best;
  }

  void integers(const std::byte* x, std::byte* y, std::int64_t* buffer) const {
    using Int = std::int64_t;
    switch (kind_) {
      case Kind::kSum:
        return store_integer(fold_stored(ExprOp::kAdd, x, buffer, 0), y);
      case Kind::kProd:
        return store_integer(fold_stored(ExprOp::kMul, x, buffer, 1), y);
      case Kind::kMax:
        return store_integer(fold_stored(ExprOp::kMax, x, buffer, std::numeric_limits<Int>::min()), y);
      case Kind::kMin:
        return store_integer(fold_stored(ExprOp::kMin, x, buffer, std::numeric_limits<Int>::max()), y);
      case Kind::kAny:
        return store_integer(fold_stored(ExprOp::kOr, x, buffer, 0), y);
      case Kind::kAll:
        return store_integer(any_or_all(x, buffer), y);
      case Kind::kArgmax:
      case Kind::kArgmin:
        return store_integer(integer_position(x, buffer), y);
      default:
        break;
    }
    // A mean or variance of integers, whatever the output holds.
    const double count = static_cast<double>(p_.elements);
    const double mean =
        fold(x, buffer, 0.0, [](double a, Int v) { return a + static_cast<double>(v); }) / count;
    if (kind_ == Kind::kMean) return store_float(mean, y);
    const double squares = fold(x, buffer, 0.0, [mean](double a, Int v) {
      return a + (static_cast<double>(v) - mean) * (static_cast<double>(v) - mean);
    });
    store_float(squares / std::max(count - p_.attrs.correction, 0.0), y);
  }

  void store_float(double value, std::byte* y) const {
    if (!is_float(p_.y_dtype)) return store_integer(static_cast<std::int64_t>(value), y);
    const auto rounded = static_cast<float>(value);
    if (p_.y_dtype == DType::kFloat32) return static_cast<void>(std::memcpy(y, &rounded, sizeof rounded));
    store_floats(*p_.micro, p_.y_dtype, &rounded, y, 1, 1);
  }
  void store_integer(std::int64_t value, std::byte* y) const {
    if (p_.y_dtype == DType::kInt64) return static_cast<void>(std::memcpy(y, &value, sizeof value));
    store_integers(p_.y_dtype, &value, y, 1, 1);
  }

  ReducePlan p_;
  Kind kind_;
  bool plain_ = false;  // a row for each result
  std::int64_t units_ = 0, pieces_ = 0;
  std::size_t thread_bytes_ = 0;
};

}  // namespace

ReducePlan::ReducePlan(const KernelRequest& r)
    : ReduceCut(cut_reduce(std::get<ReduceAttrs>(r.op.attrs).axes, r.outputs[0], r.inputs[0])),
      micro(&npu::cpu::micro()),
      attrs(std::get<ReduceAttrs>(r.op.attrs)),
      x_dtype(r.inputs[0].dtype),
      y_dtype(r.outputs[0].dtype),
      threads(r.threads) {}

std::string kind_name(Kind kind) {
  static constexpr const char* kNames[] = {"sum", "mean",   "prod",   "max", "min", "any",
                                           "all", "argmax", "argmin", "var", "std"};
  return kNames[static_cast<int>(kind)];
}

std::string ReducePlan::name() const { return "reduce[" + kind_name(attrs.kind) + "]"; }

KernelPtr make_reduce(const KernelRequest& request) {
  if (!request.fused.empty()) return make_map_reduce(request);
  const ReducePlan plan(request);
  if (columns_fit(plan)) return make_column_reduce(plan);
  return std::make_unique<Reduce>(plan);
}

}  // namespace npu::cpu
