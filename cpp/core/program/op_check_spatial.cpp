#include <cmath>

#include "core/program/op_rules.gen.h"
#include "core/program/shapes.h"

namespace npu {

namespace {

// With extents below 2^40, products of an extent and such a number, and sums of a few of them, stay below
// 2^63.
constexpr std::int64_t kLargestStep = std::int64_t{1} << 20;
constexpr std::int64_t kLargestSampled = std::int64_t{1} << 24;  // float32 tells no more positions apart

std::size_t spatial_dims(const OpCheck& c) {
  const std::size_t rank = c.rank(c.in(0));
  c.need(rank >= 3 && rank <= 5, "1 to 3 spatial dimensions");
  c.need(c.rank(c.out()) == rank, "'x' and 'out' of the same rank");
  c.need(c.in(0).shape[0] == c.out().shape[0], "'x' and 'out' of the same batch size");
  return rank - 2;
}

void need_channels(const OpCheck& c) {
  c.need(c.in(0).shape[1] == c.out().shape[1], "'x' and 'out' with the same channels");
}

void need_steps(const OpCheck& c, const std::vector<std::int64_t>& values, std::size_t dims) {
  c.need(values.size() == dims, "attributes with a number for each spatial dimension");
  for (const std::int64_t v : values)
    c.need(v >= 1 && v <= kLargestStep, "strides, dilations and kernels from 1 to 2^20");
}

bool empty(const Operand& operand) { return *elements_of(operand.shape) == 0; }

void check_pool_indices(const OpCheck& c, bool max) {
  const Operand& indices = c.out(1);
  if (!indices.present()) return;
  c.need(max, "indices of a maximum only");
  c.need_shape(indices, c.out().shape, "indices");
  c.need_dtype(indices, DType::kInt64, "indices");
}

}  // namespace

void check_conv(const OpCheck& c, const ConvAttrs& attrs) {
  const Operand &x = c.in(0), &weight = c.in(1), &bias = c.in(2);
  const std::size_t dims = spatial_dims(c);
  const Shape& out = c.out().shape;
  c.need_float(x, "x");
  c.need_dtype(weight, c.dtype(x), "weight");
  c.need(c.rank(weight) == dims + 2, "a weight of the same rank as 'x'");
  c.need(attrs.groups >= 1 && x.shape[1] % attrs.groups == 0 && out[1] % attrs.groups == 0,
         "groups that divide the channels");
  c.need(weight.shape[0] == out[1] && weight.shape[1] == x.shape[1] / attrs.groups,
         "a weight [channels of 'out', channels of 'x' / groups, kernel...]");
  if (bias.present()) {
    c.need_shape(bias, {out[1]}, "bias");
    c.need_float(bias, "bias");
  }
  for (const auto* steps : {&attrs.stride, &attrs.dilation, &attrs.input_dilation})
    need_steps(c, *steps, dims);
  c.need(attrs.padding_low.size() == dims && attrs.padding_high.size() == dims,
         "attributes with a number for each spatial dimension");
  for (std::size_t d = 0; d < dims; ++d) {
    const std::int64_t in = x.shape[d + 2], kernel = weight.shape[d + 2];
    c.need(kernel >= 1, "a kernel that is not empty");
    if (out[d + 2] == 0) continue;
    const std::int64_t dilated = in > 0 ? (in - 1) * attrs.input_dilation[d] + 1 : 0;
    const std::int64_t reach = (out[d + 2] - 1) * attrs.stride[d] + attrs.dilation[d] * (kernel - 1) + 1;
    c.need(reach <= dilated + attrs.padding_low[d] + attrs.padding_high[d],
           "windows that end inside the padded 'x'");
  }
  c.need_epilogue(attrs.epilogue);
}

void check_pool(const OpCheck& c, const PoolAttrs& attrs) {
  const std::size_t dims = spatial_dims(c);
  const bool max = attrs.kind == PoolAttrs::Kind::kMax;
  need_channels(c);
  c.need_float(c.in(0), "x");
  c.need_dtype(c.out(), c.dtype(c.in(0)), "out");
  for (const auto* steps : {&attrs.kernel, &attrs.stride, &attrs.dilation}) need_steps(c, *steps, dims);
  c.need(attrs.padding.size() == dims, "attributes with a number for each spatial dimension");
  c.need(attrs.divisor >= 0 && attrs.divisor <= kLargestExtent, "a divisor of at least 0");
  for (std::size_t d = 0; d < dims; ++d) {
    const std::int64_t in = c.in(0).shape[d + 2], out = c.out().shape[d + 2], padding = attrs.padding[d];
    c.need(padding >= 0 && padding <= (attrs.kernel[d] - 1) * attrs.dilation[d],
           "padding smaller than the kernel");
    if (empty(c.out())) continue;
    c.need(in >= 1, "an 'x' that is not empty");
    c.need((out - 1) * attrs.stride[d] < in + 2 * padding, "windows that begin inside the padded 'x'");
  }
  check_pool_indices(c, max);
}

void check_adaptive_pool(const OpCheck& c, const AdaptivePoolAttrs& attrs) {
  const std::size_t dims = spatial_dims(c);
  need_channels(c);
  c.need_float(c.in(0), "x");
  c.need_dtype(c.out(), c.dtype(c.in(0)), "out");
  for (std::size_t d = 2; d < dims + 2 && !empty(c.out()); ++d) {
    c.need(c.in(0).shape[d] >= 1, "an 'x' that is not empty");
    // Kernels compute index * extent.
    c.need(c.in(0).shape[d] <= (kLargestExtent << 20) / c.out().shape[d], "smaller spatial extents");
  }
  check_pool_indices(c, attrs.kind == AdaptivePoolAttrs::Kind::kMax);
}

void check_resize(const OpCheck& c, const ResizeAttrs& attrs) {
  const std::size_t dims = spatial_dims(c);
  need_channels(c);
  c.need_float(c.in(0), "x");
  c.need_dtype(c.out(), c.dtype(c.in(0)), "out");
  c.need(attrs.kind != ResizeAttrs::Kind::kCubic || dims == 2, "2 spatial dimensions for 'cubic'");
  c.need(attrs.scales.size() == dims, "a scale for each spatial dimension");
  for (std::size_t d = 0; d < dims; ++d) {
    const double scale = attrs.scales[d];
    const std::int64_t in = c.in(0).shape[d + 2], out = c.out().shape[d + 2];
    c.need(scale >= 0 && std::isfinite(scale), "finite scales of at least 0");
    if (empty(c.out())) continue;
    c.need(in >= 1, "an 'x' that is not empty");
    // Another scale would make kernels look far outside of 'x', beyond what integers hold; rounding may move
    // the extent by one.
    const double wanted = scale * static_cast<double>(in);
    const bool near = std::fabs(wanted - static_cast<double>(out)) <= 1.0 + 1e-6 * wanted;
    c.need(scale == 0 || (near && wanted >= 0.5), "extents of 'out' that are those of 'x' times the scales");
  }
}

void check_grid_sample(const OpCheck& c, const GridSampleAttrs& attrs) {
  const std::size_t dims = spatial_dims(c);
  const Operand &x = c.in(0), &grid = c.in(1);
  need_channels(c);
  c.need(dims >= 2, "2 or 3 spatial dimensions");
  c.need_float(x, "x");
  c.need_dtype(c.out(), c.dtype(x), "out");
  c.need(c.dtype(grid) == DType::kFloat32 || c.dtype(grid) == c.dtype(x), "a 'grid' of float32 or as 'x'");
  Shape wanted = c.out().shape;
  wanted.erase(wanted.begin() + 1);
  wanted.push_back(static_cast<std::int64_t>(dims));
  c.need_shape(grid, wanted, "grid");
  c.need(attrs.kind != GridSampleAttrs::Kind::kCubic || dims == 2, "2 spatial dimensions for 'cubic'");
  for (std::size_t d = 2; d < dims + 2; ++d) {
    c.need(empty(c.out()) || x.shape[d] >= 1, "an 'x' that is not empty");
    c.need(x.shape[d] <= kLargestSampled, "an 'x' of up to 2^24 elements along each dimension");
  }
}

void check_pad(const OpCheck& c, const PadAttrs& attrs) {
  const Operand& x = c.in(0);
  const std::size_t rank = c.rank(x);
  c.need_dtype(c.out(), c.dtype(x), "out");
  c.need(attrs.low.size() == rank && attrs.high.size() == rank,
         "attributes with a number for each dimension");
  Shape shape(rank);
  for (std::size_t d = 0; d < rank; ++d) {
    const std::int64_t low = attrs.low[d], high = attrs.high[d], extent = x.shape[d];
    c.need(low >= -extent && high >= -extent, "negative padding that removes no more than 'x' has");
    shape[d] = extent + low + high;
  }
  c.need_shape(c.out(), shape, "out");
  if (attrs.kind == PadAttrs::Kind::kConstant || empty(c.out())) return;
  for (std::size_t d = 0; d < rank; ++d) {
    const std::int64_t extent = x.shape[d], most = std::max(attrs.low[d], attrs.high[d]);
    if (most <= 0) continue;
    c.need(extent >= 1, "an 'x' that is not empty");
    c.need(attrs.kind != PadAttrs::Kind::kReflect || most < extent, "padding smaller than 'x' for 'reflect'");
    c.need(attrs.kind != PadAttrs::Kind::kCircular || most <= extent,
           "padding no larger than 'x' for 'circular'");
  }
}

}  // namespace npu
