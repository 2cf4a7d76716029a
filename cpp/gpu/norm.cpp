#include "launch.h"
#include "ops.h"

namespace npu::gpu {

namespace {

constexpr std::int64_t kSimd = 32;

struct Cut {
  Nest rows, elements;  // of y, x, weight, bias
};

Shape or_zero(const TensorDesc& t, std::size_t rank) { return t.present() ? t.strides : Shape(rank, 0); }

// Layer and RMS norms: the last dimensions are the row.
Cut cut_axes(const Request& r, std::size_t axes) {
  const TensorDesc &x = r.inputs[0], &y = r.outputs[0];
  std::vector<bool> tail(y.shape.size(), false);
  for (std::size_t d = y.shape.size() - axes; d < y.shape.size(); ++d) tail[d] = true;
  std::vector<bool> head = tail;
  head.flip();
  const Shape zero(y.shape.size() - axes, 0);
  return {make_nest(without(y.shape, tail), {without(y.strides, tail), without(x.strides, tail), zero, zero}),
          make_nest(without(y.shape, head), {without(y.strides, head), without(x.strides, head),
                                             or_zero(r.inputs[1], axes), or_zero(r.inputs[2], axes)})};
}

// Group norms: a row is some channels and all that follows.
Cut cut_groups(const Request& r, std::int64_t groups) {
  const TensorDesc &x = r.inputs[0], &y = r.outputs[0];
  const std::int64_t each = y.shape[1] / groups;
  const std::int64_t w = or_zero(r.inputs[1], 1)[0], b = or_zero(r.inputs[2], 1)[0];
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

int parameter_kind(const TensorDesc& t, DType x) { return !t.present() ? 0 : t.dtype == x ? 1 : 2; }

bool is_dense(const Request& r, const Cut& cut) {
  if (cut.elements.rank > 1 || std::get<NormAttrs>(r.op.attrs).kind == NormAttrs::Kind::kGroup) return false;
  for (int k = 0; k < 4; ++k) {
    const bool absent = k >= 2 && !r.inputs[static_cast<std::size_t>(k) - 1].present();
    if (!absent && !dense(cut.elements, k)) return false;
  }
  return true;
}

}  // namespace

Made make_norm(const Request& request) {
  static constexpr const char* kNames[] = {"norm[layer]", "norm[rms]", "norm[group]"};
  constexpr std::int64_t kMostVectors = 4, kSimdRow = 4 * kSimd * kMostVectors, kRows = 4;
  Request r = request;
  r.inputs.resize(3);
  const auto& attrs = std::get<NormAttrs>(r.op.attrs);
  const TensorDesc& x = r.inputs[0];
  auto kernel = std::make_unique<GpuKernel>(kNames[static_cast<int>(attrs.kind)]);
  if (x.elements() == 0) return kernel;
  const Cut cut = attrs.kind == NormAttrs::Kind::kGroup ? cut_groups(r, attrs.groups)
                                                        : cut_axes(r, static_cast<std::size_t>(attrs.axes));
  const std::int64_t rows = cut.rows.elements(), n = cut.elements.elements();
  NormArgs args{};
  args.rows = nest_of<4>(r.op, cut.rows);
  args.elements = nest_of<4>(r.op, cut.elements);
  args.count = count32(r.op, rows);
  args.n = count32(r.op, n);
  args.eps = static_cast<float>(attrs.eps);

  const bool in_registers = is_dense(r, cut) && n <= 4 * kMostVectors * r.caps.threads_per_group;
  // Short rows, or so many that simdgroups alone fill the device.
  const bool by_simd = n <= kSimdRow && (n <= kSimdRow / 4 || rows >= 8 * r.caps.cores);
  const std::int64_t vectors = (n + 3) / 4;  // of a row
  std::int64_t each = 1;                     // vectors of a thread
  if (by_simd) {
    each = ceil_div(vectors, kSimd);
  } else {
    while (each < kMostVectors && vectors > each * 256) each *= 2;
  }
  std::int64_t threads = in_registers ? ceil_div(ceil_div(vectors, each), kSimd) * kSimd
                         : n > 4096   ? 1024
                                      : 256;
  threads = std::min<std::int64_t>(threads, r.caps.threads_per_group);
  Dispatch launch("norm", function_name(in_registers ? "norm_dense" : "norm_any", x.dtype));
  launch.with(args).constant(0, attrs.kind == NormAttrs::Kind::kRms).constant(1, by_simd);
  launch.constant(2, parameter_kind(r.inputs[1], x.dtype)).constant(3, parameter_kind(r.inputs[2], x.dtype));
  launch.constant(4, static_cast<std::int32_t>(each)).input(1, 0, r).output(2, 0, r);
  for (int k : {1, 2}) {
    if (r.inputs[static_cast<std::size_t>(k)].present()) launch.input(k + 2, k, r);
  }
  if (by_simd) {
    launch.grid({ceil_div(rows, kRows), 1, 1}, {kSimd * kRows, 1, 1});
  } else {
    launch.grid({static_cast<std::uint32_t>(rows), 1, 1}, {static_cast<std::uint32_t>(threads), 1, 1});
  }
  kernel->add(std::move(launch));
  kernel->set_cost(7.0 * static_cast<double>(x.elements()));
  return kernel;
}

}  // namespace npu::gpu
