#include "core/geometry/norm.h"

namespace npu {

namespace {

// By pixels 8x56x56 in two groups takes a third of the time that it takes by rows: 55 and 169 us on a CPU
// with AVX-512.
constexpr std::int64_t kFewestChannels = 8;

Shape strides_or_zero(const TensorDesc& t, std::size_t rank) {
  return t.present() ? t.strides : Shape(rank, 0);
}

// The last dimensions are the row.
NormCut cut_axes(std::size_t axes, const TensorDesc& y, const TensorDesc& x, const TensorDesc& weight,
                 const TensorDesc& bias) {
  std::vector<bool> tail(y.shape.size(), false);
  std::fill(tail.end() - static_cast<std::ptrdiff_t>(axes), tail.end(), true);
  std::vector<bool> head = tail;
  head.flip();
  const Shape still(y.shape.size() - axes, 0);
  return {
      make_nest(without(y.shape, tail), {without(y.strides, tail), without(x.strides, tail), still, still}),
      make_nest(without(y.shape, head), {without(y.strides, head), without(x.strides, head),
                                         strides_or_zero(weight, axes), strides_or_zero(bias, axes)})};
}

// A row is some channels and all that follows.
NormCut cut_groups(std::int64_t groups, const TensorDesc& y, const TensorDesc& x, const TensorDesc& weight,
                   const TensorDesc& bias) {
  const std::int64_t each = y.shape[1] / groups;
  const std::int64_t w = strides_or_zero(weight, 1)[0], b = strides_or_zero(bias, 1)[0];
  Shape shape(y.shape.begin() + 1, y.shape.end());
  shape[0] = each;
  const Shape sy(y.strides.begin() + 1, y.strides.end()), sx(x.strides.begin() + 1, x.strides.end());
  Shape sw(shape.size(), 0), sb(shape.size(), 0);
  sw[0] = w;
  sb[0] = b;
  return {make_nest({y.shape[0], groups}, {{y.strides[0], y.strides[1] * each},
                                           {x.strides[0], x.strides[1] * each},
                                           {0, w * each},
                                           {0, b * each}}),
          make_nest(shape, {sy, sx, sw, sb})};
}

}  // namespace

NormCut cut_norm(const NormAttrs& attrs, const TensorDesc& y, const TensorDesc& x, const TensorDesc& weight,
                 const TensorDesc& bias) {
  return attrs.kind == NormAttrs::Kind::kGroup
             ? cut_groups(attrs.groups, y, x, weight, bias)
             : cut_axes(static_cast<std::size_t>(attrs.axes), y, x, weight, bias);
}

std::optional<ChannelsLastNorm> channels_last_norm(const NormAttrs& attrs, const TensorDesc& y,
                                                   const TensorDesc& x) {
  if (attrs.kind != NormAttrs::Kind::kGroup || y.shape.size() < 3 || y.shape[1] < kFewestChannels ||
      y.strides[1] != 1 || x.strides[1] != 1 || y.elements() == 0)
    return std::nullopt;
  const auto spatial = [](const Shape& s) { return Shape(s.begin() + 2, s.end()); };
  ChannelsLastNorm norm{make_nest(spatial(y.shape), {spatial(y.strides), spatial(x.strides)}), y.shape[0],
                        y.shape[1], attrs.groups};
  if (norm.pixels.rank != 1) return std::nullopt;
  return norm;
}

}  // namespace npu
