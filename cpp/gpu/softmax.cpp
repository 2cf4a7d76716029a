#include "nest_args.h"
#include "ops.h"

namespace npu::gpu {

namespace {
constexpr std::int64_t kSimdRow = 1024;  // longer rows are worth a threadgroup each
}

Made make_softmax(const Request& r) {
  const auto& attrs = std::get<SoftmaxAttrs>(r.op.attrs);
  const TensorDesc &x = r.inputs[0], &y = r.outputs[0];
  auto kernel = std::make_unique<GpuKernel>(attrs.log ? "softmax[log]" : "softmax");
  if (y.elements() == 0) return kernel;
  const std::size_t rank = y.shape.size();
  const auto axis = static_cast<std::size_t>(attrs.axis);
  const auto drop = only_axis(rank, attrs.axis);
  const Nest rows = make_nest(without(y.shape, drop), {without(y.strides, drop), without(x.strides, drop)});
  SoftmaxArgs args{};
  args.rows = nest2(rows);
  args.n = rank == 0 ? 1 : static_cast<std::int32_t>(y.shape[axis]);
  args.x_step = rank == 0 ? 1 : x.strides[axis];
  args.y_step = rank == 0 ? 1 : y.strides[axis];
  args.count = static_cast<std::int32_t>(rows.elements());

  const bool by_simd = args.n <= kSimdRow;
  Dispatch launch("softmax", function_name(by_simd ? "softmax_simd" : "softmax_group", x.dtype));
  launch.with(args).constant(0, attrs.log).input(1, 0, r).output(2, 0, r);
  if (by_simd) {
    constexpr int kRows = 4;  // of a threadgroup
    launch.grid({ceil_div(args.count, kRows), 1, 1}, {32 * kRows, 1, 1});
  } else {
    launch.grid({static_cast<std::uint32_t>(args.count), 1, 1}, {256, 1, 1});
  }
  kernel->add(std::move(launch));
  kernel->set_cost(10.0 * static_cast<double>(y.elements()));
  return kernel;
}

}  // namespace npu::gpu
