#include <algorithm>

#include "support/cpu_cases.h"

using namespace npu;
using namespace npu::test;

namespace {

using Resizing = ResizeAttrs::Kind;

// Positions and weights along one dimension, in double.
std::vector<std::pair<std::int64_t, double>> taps(Resizing kind, bool align, double scale_factor,
                                                  std::int64_t in, std::int64_t out, std::int64_t o) {
  double scale = scale_factor > 0 ? 1 / scale_factor : static_cast<double>(in) / static_cast<double>(out);
  const bool smooth = kind == Resizing::kLinear || kind == Resizing::kCubic;
  if (smooth && align) scale = out > 1 ? static_cast<double>(in - 1) / static_cast<double>(out - 1) : 0;
  const auto position = static_cast<double>(o);
  const auto clamp = [&](double i) {
    return std::clamp<std::int64_t>(static_cast<std::int64_t>(i), 0, in - 1);
  };
  if (kind == Resizing::kNearest) return {{clamp(std::floor(position * scale + 1e-6)), 1}};
  if (kind == Resizing::kNearestExact) return {{clamp(std::floor((position + 0.5) * scale + 1e-6)), 1}};
  double at = align ? position * scale : (position + 0.5) * scale - 0.5;
  if (kind == Resizing::kLinear) {
    at = std::clamp(at, 0.0, static_cast<double>(in - 1));
    const double i = std::floor(at), t = at - i;
    return {{clamp(i), 1 - t}, {clamp(i + 1), t}};
  }
  const double i = std::floor(at), t = at - i, a = -0.75;
  std::vector<std::pair<std::int64_t, double>> result;
  for (int k = -1; k <= 2; ++k) {
    const double x = std::fabs(t - k);
    const double w = x <= 1 ? (a + 2) * x * x * x - (a + 3) * x * x + 1
                            : a * x * x * x - 5 * a * x * x + 8 * a * x - 4 * a;
    result.emplace_back(clamp(i + k), w);
  }
  return result;
}

double blend(const Tensor& x, const Shape& o, const ResizeAttrs& attrs, const Shape& out, Shape& index,
             std::size_t d) {
  if (d == o.size()) return x.get(index);
  double total = 0;
  for (const auto& [i, w] :
       taps(attrs.kind, attrs.align_corners, attrs.scales[d - 2], x.shape[d], out[d], o[d])) {
    index[d] = i;
    if (w != 0) total += w * blend(x, o, attrs, out, index, d + 1);
  }
  return total;
}

std::int64_t padded_source(PadAttrs::Kind kind, std::int64_t i, std::int64_t n) {
  if (i >= 0 && i < n) return i;
  switch (kind) {
    case PadAttrs::Kind::kReflect:
      return i < 0 ? -i : 2 * (n - 1) - i;
    case PadAttrs::Kind::kReplicate:
      return i < 0 ? 0 : n - 1;
    case PadAttrs::Kind::kCircular:
      return i < 0 ? i + n : i - n;
    default:
      return -1;
  }
}

double moved_inside(double at, double n, const GridSampleAttrs& attrs) {
  if (attrs.padding == GridSampleAttrs::Padding::kZeros) return at;
  if (attrs.padding == GridSampleAttrs::Padding::kReflection) {
    const double low = attrs.align_corners ? 0 : -0.5, span = attrs.align_corners ? n - 1 : n;
    const double rest = span > 0 ? std::fmod(std::fabs(at - low), 2 * span) : 0;
    at = low + std::min(rest, 2 * span - rest);
  }
  return std::clamp(at, 0.0, n - 1);
}

// Positions and weights along one dimension of n elements.
std::vector<std::pair<double, double>> grid_taps(double g, double n, const GridSampleAttrs& attrs) {
  const double at = attrs.align_corners ? (g + 1) / 2 * (n - 1) : ((g + 1) * n - 1) / 2;
  if (attrs.kind == GridSampleAttrs::Kind::kNearest) return {{std::nearbyint(moved_inside(at, n, attrs)), 1}};
  if (attrs.kind == GridSampleAttrs::Kind::kLinear) {
    const double inside = moved_inside(at, n, attrs), low = std::floor(inside);
    return {{low, 1 - (inside - low)}, {low + 1, inside - low}};
  }
  std::vector<std::pair<double, double>> all;
  for (int k = -1; k <= 2; ++k) {
    const double place = std::floor(at) + k, x = std::fabs(at - place), a = -0.75;
    const double weight = x <= 1 ? (a + 2) * x * x * x - (a + 3) * x * x + 1
                                 : a * x * x * x - 5 * a * x * x + 8 * a * x - 4 * a;
    all.emplace_back(moved_inside(place, n, attrs), weight);
  }
  return all;
}

double sampled(const Tensor& x, const Tensor& grid, const Shape& o, const GridSampleAttrs& attrs,
               Shape& index, std::size_t d) {
  if (d == o.size()) return x.get(index);
  Shape place(o.begin() + 1, o.end());
  place[0] = o[0];
  std::copy(o.begin() + 2, o.end(), place.begin() + 1);
  place.push_back(static_cast<std::int64_t>(o.size() - 1 - d));
  double total = 0;
  for (const auto& [at, weight] : grid_taps(grid.get(place), static_cast<double>(x.shape[d]), attrs)) {
    if (at < 0 || at > static_cast<double>(x.shape[d] - 1)) continue;
    index[d] = static_cast<std::int64_t>(at);
    total += weight * sampled(x, grid, o, attrs, index, d + 1);
  }
  return total;
}

}  // namespace

TEST(cpu_shape, grid_sample) {
  using Kind = GridSampleAttrs::Kind;
  using Padding = GridSampleAttrs::Padding;
  struct Case {
    Shape x, out;
  };
  const Case all[] = {{{2, 5, 6, 7}, {2, 5, 4, 9}},
                      {{1, 2, 3, 5}, {1, 2, 30, 45}},  // several blocks
                      {{1, 300, 4, 1}, {1, 300, 3, 1}},
                      {{1, 3, 4, 3, 5}, {1, 3, 2, 3, 4}}};
  on_every_isa([&] {
    for (const Case& c : all) {
      Shape places = {c.out[0]};
      places.insert(places.end(), c.out.begin() + 2, c.out.end());
      places.push_back(static_cast<std::int64_t>(c.x.size()) - 2);
      for (const Kind kind : {Kind::kNearest, Kind::kLinear, Kind::kCubic}) {
        if (kind == Kind::kCubic && c.x.size() == 5) continue;
        for (const Padding padding : {Padding::kZeros, Padding::kBorder, Padding::kReflection}) {
          for (const bool align : {false, true}) {
            for (const DType dtype : {DType::kFloat32, DType::kFloat16, DType::kBFloat16}) {
              for (const Layout layout : {Layout::kChannelsLast, Layout::kDense, Layout::kSpaced}) {
                Tensor x = random(dtype, c.x, layout), y(dtype, c.out, layout);
                Tensor grid = random(align ? DType::kFloat32 : dtype, places, layout);
                const GridSampleAttrs attrs{kind, padding, align};
                run_op(cpu::make_grid_sample, OpKind::kGridSample, attrs, {&x, &grid}, {&y}, 2);
                CHECK_TENSOR(y, ([&](const Shape& o) {
                               Shape index = o;
                               return sampled(x, grid, o, attrs, index, 2);
                             }),
                             40);
              }
            }
          }
        }
      }
    }
  });
}

TEST(cpu_shape, resize) {
  struct Case {
    Shape x, out;
    std::vector<double> scales;
  };
  const Case all[] = {
      {{2, 5, 6, 7}, {2, 5, 12, 14}, {0, 0}},        {{1, 19, 6, 7}, {1, 19, 9, 3}, {0, 0}},
      {{1, 3, 5, 5}, {1, 3, 8, 8}, {1.7, 1.7}},      {{1, 4, 7}, {1, 4, 11}, {0}},
      {{1, 3, 4, 3, 5}, {1, 3, 7, 3, 2}, {0, 0, 0}}, {{1, 600, 2, 2}, {1, 600, 3, 1}, {0, 0}}};
  on_every_isa([&] {
    for (const Case& c : all) {
      for (const Resizing kind :
           {Resizing::kNearest, Resizing::kNearestExact, Resizing::kLinear, Resizing::kCubic}) {
        for (const bool align : {false, true}) {
          if (align && (kind == Resizing::kNearest || kind == Resizing::kNearestExact)) continue;
          for (const DType dtype : {DType::kFloat32, DType::kFloat16}) {
            for (const Layout layout : {Layout::kChannelsLast, Layout::kDense}) {
              Tensor x = random(dtype, c.x, layout), y(dtype, c.out, layout);
              const ResizeAttrs attrs{kind, align, c.scales};
              run_op(cpu::make_resize, OpKind::kResize, attrs, {&x}, {&y}, 2);
              CHECK_TENSOR(y, ([&](const Shape& o) {
                             Shape index = o;
                             return blend(x, o, attrs, c.out, index, 2);
                           }),
                           10);
            }
          }
        }
      }
    }
  });
}

TEST(cpu_shape, pad) {
  using Kind = PadAttrs::Kind;
  for (const Kind kind : {Kind::kConstant, Kind::kReflect, Kind::kReplicate, Kind::kCircular}) {
    for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kInt8, DType::kInt64}) {
      for (const Layout layout : kLayouts) {
        const Shape shape = {2, 3, 5, 6};
        for (const auto& [low, high] : {std::pair<Shape, Shape>{{0, 0, 2, 1}, {0, 0, 1, 3}},
                                        {{0, 0, -1, 2}, {0, 0, 3, -2}},
                                        {{1, 0, 0, -5}, {0, 2, 0, 0}}}) {
          Shape out = shape;
          for (std::size_t d = 0; d < 4; ++d) out[d] += low[d] + high[d];
          Tensor x = random(dtype, shape, layout), y(dtype, out, layout);
          run_op(cpu::make_pad, OpKind::kPad, PadAttrs{low, high, kind, -2}, {&x}, {&y}, 2);
          CHECK_TENSOR(y, ([&](const Shape& o) {
                         Shape i = o;
                         for (std::size_t d = 0; d < 4; ++d) {
                           i[d] = padded_source(kind, o[d] - low[d], shape[d]);
                           if (i[d] < 0) return -2.0;
                         }
                         return x.get(i);
                       }));
        }
      }
    }
  }
  Tensor none(DType::kFloat32, {3, 0}), y(DType::kFloat32, {3, 2}), one = random(DType::kFloat32, {}),
                                                                    same(DType::kFloat32, {});
  run_op(cpu::make_pad, OpKind::kPad, PadAttrs{{0, 1}, {0, 1}, Kind::kConstant, 4}, {&none}, {&y});
  CHECK_TENSOR(y, ([](const Shape&) { return 4.0; }));
  run_op(cpu::make_pad, OpKind::kPad, PadAttrs{{}, {}, Kind::kConstant, 4}, {&one}, {&same});
  CHECK_EQ(one.get({}), same.get({}));
}

TEST(cpu_shape, iota) {
  for (const DType dtype : {DType::kFloat32, DType::kFloat16, DType::kInt64, DType::kInt32}) {
    Tensor y(dtype, {50}, Layout::kSpaced);
    run_op(cpu::make_iota, OpKind::kIota, IotaAttrs{3, -2}, {}, {&y});
    CHECK_TENSOR(y, ([](const Shape& i) { return 3.0 - 2 * static_cast<double>(i[0]); }));
  }
}
