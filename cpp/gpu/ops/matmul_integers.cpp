// Products of integers: a thread for each result.
#include "gpu/ops/launch.h"
#include "gpu/ops/ops.h"
#include "metal/constants.h"

namespace npu::gpu {

KernelPtr make_integer_matmul(const Request& r) {
  const TensorDesc &a = r.inputs[0], &b = r.inputs[1], &y = r.outputs[0];
  const std::size_t last = y.shape.size() - 1;
  Shape left = a.strides, right = b.strides;
  left[last] = right[last - 1] = 0;
  MatmulIntegersArgs args{};
  args.results = nest_of<3>(r.op, make_nest(y.shape, {y.strides, left, right}));
  args.left_step = a.strides[last];
  args.right_step = b.strides[last - 1];
  args.depth = count32(r.op, a.shape[last]);
  args.count = count32(r.op, y.elements());
  Dispatch launch("matmul_integers", function_name("matmul_integers", y.dtype));
  launch.with(args).input(kBufferLeft, 0, r).input(kBufferRight, 1, r).output(kBufferResult, 0, r);
  launch.grid({ceil_div(args.count, 64), 1, 1}, {64, 1, 1});
  auto kernel = std::make_unique<GpuKernel>("matmul[integers]");
  kernel->set_cost(2.0 * args.depth * static_cast<double>(args.count));
  kernel->add(std::move(launch));
  return kernel;
}

}  // namespace npu::gpu
