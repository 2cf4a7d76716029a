#include "support/cpu_cases.h"

using namespace npu;
using namespace npu::test;

namespace {

struct Window {
  Shape kernel, stride, padding, dilation;
};

// Cells of a window: calls f(index of x, flat position); returns how many cells lie in the padded input.
std::int64_t each_cell(const Shape& x, const Shape& out, const Window& w,
                       const std::function<void(const Shape&, std::int64_t)>& f) {
  std::int64_t covered = 0;
  for_each(w.kernel, [&](const Shape& k) {
    Shape index = {out[0], out[1]};
    std::int64_t flat = 0;
    bool inside = true, padded = true;
    for (std::size_t d = 0; d < k.size(); ++d) {
      const std::int64_t at = out[d + 2] * w.stride[d] - w.padding[d] + k[d] * w.dilation[d], n = x[d + 2];
      inside = inside && at >= 0 && at < n;
      padded = padded && at < n + w.padding[d];
      flat = flat * n + at;
      index.push_back(at);
    }
    covered += padded;
    if (inside) f(index, flat);
  });
  return covered;
}

double expected_pool(const Tensor& x, const Shape& out, const Window& w, bool maximum, bool count_padding,
                     std::int64_t divisor, bool position) {
  double best = -INFINITY, sum = 0;
  std::int64_t where = -1, cells = 0;
  const std::int64_t covered = each_cell(x.shape, out, w, [&](const Shape& i, std::int64_t flat) {
    const double v = x.get(i);
    sum += v;
    ++cells;
    if (where < 0 || (!std::isnan(best) && (v > best || std::isnan(v)))) best = v, where = flat;
  });
  if (position) return static_cast<double>(where);
  if (maximum) return best;
  return sum / static_cast<double>(divisor != 0 ? divisor : count_padding ? covered : cells);
}

}  // namespace

TEST(cpu_pool, windows) {
  struct Case {
    Shape x, out;
    Window w;
  };
  const Case all[] = {{{2, 5, 9, 8}, {2, 5, 5, 4}, {{3, 3}, {2, 2}, {1, 1}, {1, 1}}},
                      {{1, 37, 7, 7}, {1, 37, 8, 4}, {{2, 3}, {1, 2}, {1, 1}, {1, 1}}},
                      {{2, 3, 11}, {2, 3, 4}, {{3}, {2}, {1}, {2}}},
                      {{1, 70, 5, 4, 3}, {1, 70, 3, 2, 2}, {{2, 2, 2}, {2, 2, 2}, {1, 0, 1}, {1, 1, 1}}},
                      {{1, 600, 20, 20}, {1, 600, 2, 2}, {{10, 10}, {10, 10}, {0, 0}, {1, 1}}},
                      {{0, 3, 4, 4}, {0, 3, 2, 2}, {{2, 2}, {2, 2}, {0, 0}, {1, 1}}}};
  on_every_isa([&] {
    for (const Case& c : all) {
      for (const DType dtype : {DType::kFloat32, DType::kFloat16, DType::kBFloat16, DType::kInt32}) {
        for (const Layout layout : {Layout::kChannelsLast, Layout::kDense, Layout::kBackwards}) {
          if (layout == Layout::kBackwards && c.x[1] > 100) continue;
          Tensor x = random(dtype, c.x, layout), y(dtype, c.out, layout),
                 indices(DType::kInt64, c.out, layout);
          if (count(c.x) > 0 && is_float(dtype)) x.set(Shape(c.x.size(), 0), NAN);
          const PoolAttrs max{PoolAttrs::Kind::kMax, c.w.kernel, c.w.stride, c.w.padding,
                              c.w.dilation,          true,       0};
          run_op(cpu::make_pool, OpKind::kPool, max, {&x}, {&y, nullptr}, 2);
          CHECK_TENSOR(y, ([&](const Shape& o) { return expected_pool(x, o, c.w, true, true, 0, false); }));
          run_op(cpu::make_pool, OpKind::kPool, max, {&x}, {&y, &indices});
          CHECK_TENSOR(indices,
                       ([&](const Shape& o) { return expected_pool(x, o, c.w, true, true, 0, true); }));
          if (!is_float(dtype)) continue;
          for (const bool padding : {true, false}) {
            for (const std::int64_t divisor : {0, 5}) {
              const PoolAttrs avg{PoolAttrs::Kind::kAvg, c.w.kernel, c.w.stride, c.w.padding,
                                  c.w.dilation,          padding,    divisor};
              run_op(cpu::make_pool, OpKind::kPool, avg, {&x}, {&y});
              CHECK_TENSOR(y, ([&](const Shape& o) {
                             return expected_pool(x, o, c.w, false, padding, divisor, false);
                           }),
                           4);
            }
          }
        }
      }
    }
  });
}

TEST(cpu_pool, adaptive) {
  struct Case {
    Shape x, out;
  };
  const Case all[] = {{{2, 19, 7, 7}, {2, 19, 1, 1}},
                      {{1, 33, 10, 7}, {1, 33, 3, 4}},
                      {{2, 3, 5}, {2, 3, 8}},
                      {{1, 9, 40, 41}, {1, 9, 1, 1}}};
  on_every_isa([&] {
    for (const Case& c : all) {
      for (const Layout layout : {Layout::kChannelsLast, Layout::kDense}) {
        for (const DType dtype : {DType::kFloat32, DType::kFloat16}) {
          Tensor x = random(dtype, c.x, layout), y(dtype, c.out, layout), z(dtype, c.out, layout);
          run_op(cpu::make_adaptive_pool, OpKind::kAdaptivePool,
                 AdaptivePoolAttrs{AdaptivePoolAttrs::Kind::kAvg}, {&x}, {&y});
          run_op(cpu::make_adaptive_pool, OpKind::kAdaptivePool,
                 AdaptivePoolAttrs{AdaptivePoolAttrs::Kind::kMax}, {&x}, {&z});
          const auto expected = [&](const Shape& o, bool maximum) {
            Window w;
            Shape first = o;
            for (std::size_t d = 2; d < o.size(); ++d) {
              const std::int64_t in = c.x[d], out = c.out[d], begin = o[d] * in / out,
                                 end = ((o[d] + 1) * in + out - 1) / out;
              w.kernel.push_back(end - begin);
              w.stride.push_back(1);
              w.padding.push_back(0);
              w.dilation.push_back(1);
              first[d] = begin;
            }
            return expected_pool(x, first, w, maximum, false, 0, false);
          };
          CHECK_TENSOR(y, ([&](const Shape& o) { return expected(o, false); }));
          CHECK_TENSOR(z, ([&](const Shape& o) { return expected(o, true); }));
        }
      }
    }
  });
}
