#include "support/cpu_cases.h"

using namespace npu;
using namespace npu::test;

namespace {

using Kind = ReduceAttrs::Kind;

double expected_of(Kind kind, const std::vector<double>& v) {
  const double n = static_cast<double>(v.size());
  double sum = 0, prod = 1, most = -INFINITY, least = INFINITY, squares = 0;
  std::size_t argmax = 0, argmin = 0;
  bool any = false, all = true, nan = false;
  for (std::size_t i = 0; i < v.size(); ++i) {
    sum += v[i];
    prod *= v[i];
    any = any || v[i] != 0;
    all = all && v[i] != 0;
    if (nan) continue;
    nan = std::isnan(v[i]);
    if (nan || v[i] > most) most = v[i], argmax = i;
    if (nan || v[i] < least) least = v[i], argmin = i;
  }
  for (const double x : v) squares += (x - sum / n) * (x - sum / n);
  switch (kind) {
    case Kind::kSum:
      return sum;
    case Kind::kMean:
      return sum / n;
    case Kind::kProd:
      return prod;
    case Kind::kMax:
      return most;
    case Kind::kMin:
      return least;
    case Kind::kAny:
      return any;
    case Kind::kAll:
      return all;
    case Kind::kArgmax:
      return static_cast<double>(argmax);
    case Kind::kArgmin:
      return static_cast<double>(argmin);
    default:
      return squares / (n - 1);
  }
}

void check_reduce(Kind kind, const Shape& shape, const std::vector<std::int64_t>& axes, DType dtype,
                  Layout layout, bool with_nan = false) {
  const bool arg = kind == Kind::kArgmax || kind == Kind::kArgmin,
             truth = kind == Kind::kAny || kind == Kind::kAll;
  DType out = arg ? DType::kInt64 : truth ? DType::kBool : dtype;
  if (!is_float(dtype) && (kind == Kind::kSum || kind == Kind::kProd)) out = DType::kInt64;
  Tensor x = random(dtype, shape, layout);
  if (with_nan) x.set(Shape(shape.size(), 1), NAN);
  Shape kept = shape, dropped(shape.size(), 1);
  for (const auto a : axes)
    kept[static_cast<std::size_t>(a)] = 1,
    dropped[static_cast<std::size_t>(a)] = shape[static_cast<std::size_t>(a)];
  Tensor y(out, kept, layout);
  run_op(cpu::make_reduce, OpKind::kReduce, ReduceAttrs{kind, axes, 1.0}, {&x}, {&y}, 2);
  const double scale = std::sqrt(static_cast<double>(count(dropped))) * (kind == Kind::kSum ? 3 : 1);
  CHECK_TENSOR(y, ([&](const Shape& i) {
                 std::vector<double> values;
                 for_each(dropped, [&](Shape at) {
                   for (std::size_t d = 0; d < at.size(); ++d) at[d] += i[d];
                   values.push_back(x.get(at));
                 });
                 return expected_of(kind, values);
               }),
               is_float(out) ? 1 + scale * (is_float(dtype) && dtype != DType::kFloat32 ? 0.1 : 1) : 0);
}

}  // namespace

TEST(cpu_reduce, kinds_layouts_dtypes) {
  const Kind kinds[] = {Kind::kSum, Kind::kMean,   Kind::kMax,    Kind::kMin, Kind::kAny,
                        Kind::kAll, Kind::kArgmax, Kind::kArgmin, Kind::kVar};
  on_every_isa([&] {
    for (const Kind kind : kinds) {
      const bool arg = kind == Kind::kArgmax || kind == Kind::kArgmin;
      for (const Layout layout : kLayouts) {
        for (const DType dtype :
             {DType::kFloat32, DType::kBFloat16, DType::kInt32, DType::kInt8, DType::kBool}) {
          if (!is_float(dtype) && (kind == Kind::kMean || kind == Kind::kVar)) continue;
          check_reduce(kind, {3, 4, 5, 20}, {1}, dtype, layout);
          check_reduce(kind, {3, 4, 5, 20}, {3}, dtype, layout);
          check_reduce(kind, {7}, {0}, dtype, layout);
          if (arg) continue;
          check_reduce(kind, {3, 4, 5, 20}, {2, 3}, dtype, layout);
          check_reduce(kind, {3, 4, 5, 20}, {0, 2}, dtype, layout);
          check_reduce(kind, {2, 3, 5}, {0, 1, 2}, dtype, layout);
        }
        if (kind != Kind::kAny && kind != Kind::kAll)
          check_reduce(kind, {3, 4, 40}, {2}, DType::kFloat32, layout, true);
        if (kind == Kind::kMax || kind == Kind::kMin || kind == Kind::kSum)
          check_reduce(kind, {3, 200, 40}, {1}, DType::kFloat32, layout, true);
      }
    }
    check_reduce(Kind::kProd, {3, 4, 5}, {1}, DType::kFloat32, Layout::kDense);
    check_reduce(Kind::kProd, {3, 4, 5}, {2}, DType::kInt32, Layout::kDense);
  });
}

TEST(cpu_reduce, long_sums_are_accurate) {
  on_every_isa([] {
    for (const bool columns : {false, true}) {
      const std::int64_t n = 1000000, m = columns ? 4 : 1;
      Tensor x(DType::kFloat32, {n, m}), y(DType::kFloat32, {1, m});
      auto* data = reinterpret_cast<float*>(x.data.data());
      double sum = 0;
      for (std::int64_t i = 0; i < n; ++i) {
        const float v = 0.1f + static_cast<float>(i % 97) * 0.013f;
        sum += static_cast<double>(v);
        for (std::int64_t j = 0; j < m; ++j) data[i * m + j] = v;
      }
      run_op(cpu::make_reduce, OpKind::kReduce, ReduceAttrs{Kind::kMean, {0}, 0}, {&x}, {&y}, 2);
      CHECK(std::fabs(y.get({0, 0}) - sum / static_cast<double>(n)) < 1e-6);
    }
  });
}

TEST(cpu_reduce, empty) {
  Tensor x(DType::kFloat32, {3, 0}), y(DType::kFloat32, {3, 1}), none(DType::kFloat32, {0, 4}),
      nothing(DType::kFloat32, {0, 1});
  run_op(cpu::make_reduce, OpKind::kReduce, ReduceAttrs{Kind::kSum, {1}, 0}, {&x}, {&y});
  CHECK_TENSOR(y, ([](const Shape&) { return 0.0; }));
  run_op(cpu::make_reduce, OpKind::kReduce, ReduceAttrs{Kind::kProd, {1}, 0}, {&x}, {&y});
  CHECK_TENSOR(y, ([](const Shape&) { return 1.0; }));
  run_op(cpu::make_reduce, OpKind::kReduce, ReduceAttrs{Kind::kSum, {1}, 0}, {&none}, {&nothing});
  Tensor ints = random(DType::kInt8, {300}), total(DType::kInt64, {1});
  run_op(cpu::make_reduce, OpKind::kReduce, ReduceAttrs{Kind::kSum, {0}, 0}, {&ints}, {&total});
  double sum = 0;
  for (std::int64_t i = 0; i < 300; ++i) sum += ints.get({i});
  CHECK_EQ(total.get({0}), sum);
}
