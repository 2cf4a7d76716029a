#include <algorithm>
#include <numeric>

#include "support/cpu_cases.h"

using namespace npu;
using namespace npu::test;

namespace {

// The indices of a row in the order that sort promises.
std::vector<std::int64_t> order_of(const Tensor& x, Shape index, std::size_t axis, bool descending) {
  std::vector<double> values;
  for (index[axis] = 0; index[axis] < x.shape[axis]; ++index[axis]) values.push_back(x.get(index));
  std::vector<std::int64_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int64_t i, std::int64_t j) {
    double a = values[static_cast<std::size_t>(i)], b = values[static_cast<std::size_t>(j)];
    if (descending) std::swap(a, b);
    return std::isnan(b) ? !std::isnan(a) : a < b;
  });
  return order;
}

constexpr DType kAll[] = {DType::kFloat32, DType::kFloat16, DType::kBFloat16, DType::kInt8, DType::kInt16,
                          DType::kInt32,   DType::kInt64,   DType::kUInt8,    DType::kBool};

void check_ordered(DType dtype, const Shape& shape, std::size_t axis, bool descending, Layout layout,
                   std::int64_t k) {
  Tensor x = random(dtype, shape, layout);
  if (is_float(dtype) && count(shape) > 3) {
    x.set(Shape(shape.size(), 0), NAN);
    Shape last = shape;
    for (auto& d : last) --d;
    x.set(last, -INFINITY);
    last[axis] = 0;
    x.set(last, -0.0);
  }
  Shape out = shape;
  if (k >= 0) out[axis] = k;
  Tensor values(dtype, out, layout), indices(DType::kInt64, out);
  const auto a = static_cast<std::int64_t>(axis);
  if (k < 0) {
    run_op(cpu::make_sort, OpKind::kSort, SortAttrs{a, descending}, {&x}, {&values, &indices}, 2);
  } else {
    run_op(cpu::make_topk, OpKind::kTopk, TopkAttrs{a, descending}, {&x}, {&values, &indices}, 2);
  }
  const auto from = [&](const Shape& i) {
    return order_of(x, i, axis, descending)[static_cast<std::size_t>(i[axis])];
  };
  CHECK_TENSOR(indices, ([&](const Shape& i) { return static_cast<double>(from(i)); }));
  CHECK_TENSOR(values, ([&](Shape i) {
                 i[axis] = from(i);
                 return x.get(i);
               }));
}

}  // namespace

TEST(cpu_order, sort_and_topk) {
  for (const DType dtype : kAll) {
    for (const Layout layout : {Layout::kDense, Layout::kReversed, Layout::kBackwards}) {
      for (const bool descending : {false, true}) {
        check_ordered(dtype, {3, 41}, 1, descending, layout, -1);
        check_ordered(dtype, {11, 3, 2}, 0, descending, layout, -1);
        check_ordered(dtype, {4, 1}, 1, descending, layout, -1);
        check_ordered(dtype, {0, 5}, 1, descending, layout, -1);
        check_ordered(dtype, {3, 41}, 1, descending, layout, 5);
        check_ordered(dtype, {2, 2000}, 1, descending, layout, 3);
        check_ordered(dtype, {2, 700}, 1, descending, layout, -1);  // digit by digit
        check_ordered(dtype, {2, 700}, 1, descending, layout, 40);
        check_ordered(dtype, {3, 9}, 1, descending, layout, 9);
        check_ordered(dtype, {3, 9}, 1, descending, layout, 0);
      }
    }
  }
}

TEST(cpu_order, one_output_is_enough) {
  Tensor x = random(DType::kFloat32, {9}), indices(DType::kInt64, {2}), values(DType::kFloat32, {2});
  run_op(cpu::make_topk, OpKind::kTopk, TopkAttrs{0, true}, {&x}, {nullptr, &indices});
  run_op(cpu::make_topk, OpKind::kTopk, TopkAttrs{0, true}, {&x}, {&values, nullptr});
  CHECK_EQ(x.get({static_cast<std::int64_t>(indices.get({1}))}), values.get({1}));
  Tensor one = random(DType::kFloat32, {}), same(DType::kFloat32, {}), zero(DType::kInt64, {});
  run_op(cpu::make_sort, OpKind::kSort, SortAttrs{0, false}, {&one}, {&same, &zero});
  CHECK_EQ(one.get({}), same.get({}));
}

TEST(cpu_order, scans) {
  for (const DType dtype : kAll) {
    for (const Layout layout : kLayouts) {
      for (std::size_t axis = 0; axis < 3; ++axis) {
        for (const bool product : {false, true}) {
          if (product && (dtype == DType::kFloat16 || is_integer(dtype))) continue;  // they overflow
          Tensor x = random(dtype, {3, 5, 70}, layout),
                 y(is_float(dtype) ? dtype : DType::kInt64, {3, 5, 70}, layout);
          const ScanAttrs attrs{product ? ScanAttrs::Kind::kProd : ScanAttrs::Kind::kSum,
                                static_cast<std::int64_t>(axis)};
          run_op(cpu::make_scan, OpKind::kScan, attrs, {&x}, {&y}, 2);
          CHECK_TENSOR(y, ([&](Shape i) {
                         double total = product ? 1 : 0;
                         for (; i[axis] >= 0; --i[axis])
                           total = product ? total * x.get(i) : total + x.get(i);
                         return total;
                       }),
                       2);
        }
      }
    }
  }
  Tensor none(DType::kFloat32, {0, 3}), nothing(DType::kFloat32, {0, 3}), one = random(DType::kFloat32, {}),
                                                                          same(DType::kFloat32, {});
  run_op(cpu::make_scan, OpKind::kScan, ScanAttrs{ScanAttrs::Kind::kSum, 0}, {&none}, {&nothing});
  run_op(cpu::make_scan, OpKind::kScan, ScanAttrs{ScanAttrs::Kind::kSum, 0}, {&one}, {&same});
  CHECK_EQ(one.get({}), same.get({}));
}

TEST(cpu_order, scans_extremes) {
  using Kind = ScanExtremeAttrs::Kind;
  for (const DType dtype : kAll) {
    for (const Layout layout : kLayouts) {
      for (std::size_t axis = 0; axis < 3; ++axis) {
        for (const Kind kind : {Kind::kMax, Kind::kMin}) {
          Tensor x = random(dtype, {3, 5, 70}, layout), y(dtype, x.shape, layout),
                 indices(DType::kInt64, x.shape, layout), alone(dtype, x.shape),
                 places(DType::kInt64, x.shape);
          if (is_float(dtype)) x.set({1, 2, 30}, NAN);
          const ScanExtremeAttrs attrs{kind, static_cast<std::int64_t>(axis)};
          const auto index_at = [&](Shape i) {
            const std::int64_t end = i[axis];
            std::int64_t best = 0;
            double value = 0;
            for (i[axis] = 0; i[axis] <= end; ++i[axis]) {
              const double now = x.get(i);
              if (i[axis] > 0 && !(kind == Kind::kMax ? now >= value : now <= value) && !std::isnan(now))
                continue;
              best = i[axis];
              value = now;
            }
            return best;
          };
          const auto value_at = [&](Shape i) {
            i[axis] = index_at(i);
            return x.get(i);
          };
          run_op(cpu::make_scan_extreme, OpKind::kScanExtreme, attrs, {&x}, {&y, &indices}, 2);
          CHECK_TENSOR(y, value_at, 0);
          CHECK_TENSOR(indices, index_at, 0);
          run_op(cpu::make_scan_extreme, OpKind::kScanExtreme, attrs, {&x}, {&alone, nullptr}, 2);
          CHECK_TENSOR(alone, value_at, 0);
          run_op(cpu::make_scan_extreme, OpKind::kScanExtreme, attrs, {&x}, {nullptr, &places}, 2);
          CHECK_TENSOR(places, index_at, 0);
        }
      }
    }
  }
  Tensor none(DType::kFloat32, {0, 3}), nothing(DType::kFloat32, {0, 3});
  run_op(cpu::make_scan_extreme, OpKind::kScanExtreme, ScanExtremeAttrs{Kind::kMax, 0}, {&none},
         {&nothing, nullptr});
}
