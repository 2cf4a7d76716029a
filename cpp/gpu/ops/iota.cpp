#include "gpu/ops/launch.h"
#include "gpu/ops/ops.h"

namespace npu::gpu {

namespace {

// The number as a sum of floats.
void split(double number, float* parts) {
  for (int k = 0; k < 3; ++k) {
    const volatile auto part = static_cast<float>(number);  // GCC 12 at -O3 forgets the rounding otherwise
    parts[k] = part;
    number -= static_cast<double>(part);
  }
}

}  // namespace

KernelPtr make_iota(const Request& r) {
  const auto& attrs = std::get<IotaAttrs>(r.op.attrs);
  const TensorDesc& y = r.outputs[0];
  auto kernel = std::make_unique<GpuKernel>("iota");
  if (y.elements() == 0) return kernel;
  IotaArgs args{};
  args.count = count32(r.op, y.elements());
  args.y_step = y.strides.empty() ? 1 : y.strides[0];
  if (is_float(y.dtype)) {
    split(attrs.start, args.start);
    split(attrs.step, args.step);
  } else {
    args.integer_start = static_cast<std::int64_t>(attrs.start);
    args.integer_step = static_cast<std::int64_t>(attrs.step);
  }
  constexpr std::uint32_t kThreads = 256;
  Dispatch launch("iota", function_name("iota", y.dtype));
  launch.with(args).output(kBufferY, 0, r).grid({ceil_div(args.count, kThreads), 1, 1}, {kThreads, 1, 1});
  kernel->add(std::move(launch));
  return kernel;
}

}  // namespace npu::gpu
