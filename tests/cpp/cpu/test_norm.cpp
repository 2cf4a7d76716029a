#include "support/cpu_cases.h"

using namespace npu;
using namespace npu::test;

namespace {

struct Moments {
  double mean = 0, variance = 0;
};

Moments moments(const std::vector<double>& values) {
  Moments m;
  for (const double v : values) m.mean += v / static_cast<double>(values.size());
  for (const double v : values)
    m.variance += (v - m.mean) * (v - m.mean) / static_cast<double>(values.size());
  return m;
}

double weight_at(const Tensor* w, const Shape& index, double otherwise) {
  return w == nullptr ? otherwise : w->get(index);
}

void check_layer_norm(const Shape& shape, std::int64_t axes, DType dtype, DType wtype, Layout layout,
                      bool weight, bool rms) {
  Tensor x = random(dtype, shape, layout), y(dtype, shape, layout);
  const Shape tail(shape.end() - axes, shape.end());
  Tensor w = random(wtype, tail, Layout::kDense, 2), b = random(wtype, tail, Layout::kDense, 3);
  const NormAttrs attrs{rms ? NormAttrs::Kind::kRms : NormAttrs::Kind::kLayer, axes, 1, 1e-5};
  const bool bias = weight && !rms;
  run_op(cpu::make_norm, OpKind::kNorm, attrs, {&x, weight ? &w : nullptr, bias ? &b : nullptr}, {&y}, 2);
  const std::size_t kept = shape.size() - static_cast<std::size_t>(axes);
  Shape last = {-1};  // no row's
  Moments m;
  CHECK_TENSOR(y, ([&](const Shape& i) {
                 const Shape head(i.begin(), i.begin() + static_cast<std::ptrdiff_t>(kept)),
                     rest(i.begin() + static_cast<std::ptrdiff_t>(kept), i.end());
                 if (last != head) {
                   std::vector<double> values;
                   for_each(tail, [&](const Shape& t) {
                     Shape full = head;
                     full.insert(full.end(), t.begin(), t.end());
                     values.push_back(x.get(full));
                   });
                   m = moments(values);
                   if (rms) m = {0, m.variance + m.mean * m.mean};
                   last = head;
                 }
                 return (x.get(i) - m.mean) / std::sqrt(m.variance + 1e-5) *
                            weight_at(weight ? &w : nullptr, rest, 1) +
                        weight_at(bias ? &b : nullptr, rest, 0);
               }),
               3);
}

void check_group_norm(const Shape& shape, std::int64_t groups, DType dtype, Layout layout, bool weight,
                      double offset) {
  Tensor x = random(dtype, shape, layout), y(dtype, shape, layout);
  for_each(shape, [&](const Shape& i) { x.set(i, x.get(i) + offset); });
  Tensor w = random(DType::kFloat32, {shape[1]}, Layout::kSpaced, 2),
         b = random(DType::kFloat32, {shape[1]}, Layout::kDense, 3);
  run_op(cpu::make_norm, OpKind::kNorm, NormAttrs{NormAttrs::Kind::kGroup, 1, groups, 1e-5},
         {&x, weight ? &w : nullptr, weight ? &b : nullptr}, {&y}, 2);
  const std::int64_t each = shape[1] / groups;
  std::vector<Moments> m;
  for (std::int64_t n = 0; n < shape[0]; ++n) {
    for (std::int64_t g = 0; g < groups; ++g) {
      Shape inner(shape.begin() + 1, shape.end());
      inner[0] = each;
      std::vector<double> values;
      for_each(inner, [&](Shape i) {
        i[0] += g * each;
        i.insert(i.begin(), n);
        values.push_back(x.get(i));
      });
      m.push_back(moments(values));
    }
  }
  CHECK_TENSOR(y, ([&](const Shape& i) {
                 const Moments& of = m[static_cast<std::size_t>(i[0] * groups + i[1] / each)];
                 return (x.get(i) - of.mean) / std::sqrt(of.variance + 1e-5) * (weight ? w.get({i[1]}) : 1) +
                        (weight ? b.get({i[1]}) : 0);
               }),
               4 + std::fabs(offset));
}

}  // namespace

TEST(cpu_norm, layer_and_rms) {
  on_every_isa([] {
    for (const DType dtype : {DType::kFloat32, DType::kFloat16, DType::kBFloat16}) {
      for (const Layout layout :
           {Layout::kDense, Layout::kReversed, Layout::kSpaced, Layout::kChannelsLast}) {
        for (const bool rms : {false, true}) {
          check_layer_norm({3, 5, 67}, 1, dtype, dtype, layout, true, rms);
          check_layer_norm({3, 5, 67}, 1, dtype, DType::kFloat32, layout, false, rms);
          check_layer_norm({2, 3, 4, 7}, 2, dtype, DType::kFloat32, layout, true, rms);
          check_layer_norm({2, 3, 4, 7}, 3, dtype, dtype, layout, true, rms);
          check_layer_norm({4, 1}, 1, dtype, dtype, layout, true, rms);
          check_layer_norm({0, 8}, 1, dtype, dtype, layout, true, rms);
        }
      }
    }
    check_layer_norm({2, 20000}, 1, DType::kBFloat16, DType::kFloat32, Layout::kDense, true, false);
    check_layer_norm({70, 768}, 1, DType::kFloat32, DType::kFloat32, Layout::kDense, true, false);
  });
}

TEST(cpu_norm, groups) {
  on_every_isa([] {
    for (const DType dtype : {DType::kFloat32, DType::kFloat16}) {
      for (const Layout layout : {Layout::kDense, Layout::kChannelsLast, Layout::kBackwards}) {
        for (const bool weight : {false, true}) {
          check_group_norm({2, 12, 5, 7}, 3, dtype, layout, weight, 0);
          check_group_norm({2, 6, 9}, 6, dtype, layout, weight, 0);
          check_group_norm({2, 8}, 2, dtype, layout, weight, 0);
          check_group_norm({1, 16, 3, 40, 5}, 1, dtype, layout, weight, 0);
        }
      }
    }
    check_group_norm({2, 32, 30, 30}, 8, DType::kFloat32, Layout::kChannelsLast, true, 0);
    check_group_norm({1, 32, 30, 30}, 8, DType::kFloat32, Layout::kChannelsLast, true, 10);
  });
}

TEST(cpu_norm, softmax) {
  on_every_isa([] {
    for (const DType dtype : {DType::kFloat32, DType::kFloat16, DType::kBFloat16}) {
      for (const Layout layout : kLayouts) {
        for (const Shape& shape : {Shape{3, 5, 33}, Shape{7, 1}, Shape{2, 3, 4, 50}, Shape{0, 4}}) {
          for (std::size_t axis = 0; axis < shape.size(); ++axis) {
            for (const bool log : {false, true}) {
              Tensor x = random(dtype, shape, layout), y(dtype, shape, layout);
              run_op(cpu::make_softmax, OpKind::kSoftmax, SoftmaxAttrs{static_cast<std::int64_t>(axis), log},
                     {&x}, {&y});
              CHECK_TENSOR(y, ([&](Shape i) {
                             const double v = x.get(i);
                             double sum = 0;
                             for (i[axis] = 0; i[axis] < shape[axis]; ++i[axis]) sum += std::exp(x.get(i));
                             return log ? v - std::log(sum) : std::exp(v) / sum;
                           }),
                           2);
            }
          }
        }
      }
    }
  });
}

TEST(cpu_norm, softmax_of_infinities) {
  on_every_isa([] {
    Tensor x = random(DType::kFloat32, {3, 40}), y(DType::kFloat32, {3, 40});
    for (std::int64_t i = 0; i < 40; ++i) {
      x.set({0, i}, -INFINITY);
      if (i > 0) x.set({1, i}, -INFINITY);
      x.set({2, i}, 1000 * static_cast<double>(i));
    }
    run_op(cpu::make_softmax, OpKind::kSoftmax, SoftmaxAttrs{1, false}, {&x}, {&y});
    CHECK_TENSOR(y, ([&](const Shape& i) {
                   return i[0] == 0 ? NAN : i[0] == 1 ? double(i[1] == 0) : double(i[1] == 39);
                 }));
  });
}
