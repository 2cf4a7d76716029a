// Rotary positions and the caches they are written to: the caches are copied first, unless they are updated
// in place.
#include "core/geometry/rope.h"

#include <algorithm>

#include "gpu/ops/copy.h"
#include "gpu/ops/ops.h"

namespace npu::gpu {

namespace {

enum Input : std::uint8_t { kX, kCos, kSin, kKey, kValue, kKeyCache, kValueCache, kIndex, kInputs };
enum Output : std::uint8_t { kOut, kKeyOut, kValueOut, kOutputs };

void take_steps(std::int64_t (&steps)[4], const TensorDesc& operand) {
  if (operand.present()) std::copy(operand.strides.begin(), operand.strides.end(), steps);
}

RopeArgs arguments(const Request& r) {
  const auto& in = r.inputs;
  RopeArgs args{};
  take_steps(args.x_step, in[kX]);
  take_steps(args.cos_step, in[kCos]);
  take_steps(args.sin_step, in[kSin]);
  take_steps(args.key_step, in[kKey]);
  take_steps(args.value_step, in[kValue]);
  take_steps(args.out_step, r.outputs[kOut]);
  take_steps(args.key_out_step, r.outputs[kKeyOut]);
  take_steps(args.value_out_step, r.outputs[kValueOut]);
  const RopeGeometry g = rope_geometry(in[kX], in[kCos], in[kKey], in[kValue]);
  args.batch = count32(r.op, g.batch);
  args.heads = count32(r.op, g.heads);
  args.length = count32(r.op, g.length);
  args.width = count32(r.op, g.width);
  args.rotated = count32(r.op, g.rotated);
  args.key_heads = count32(r.op, g.key_heads);
  args.value_heads = count32(r.op, g.value_heads);
  args.value_width = count32(r.op, g.value_width);
  if (in[kIndex].present()) {
    args.index_step = in[kIndex].strides[0];
    args.capacity = in[kKeyCache].shape[2];
  }
  return args;
}

// Of caches only the rows that are written count.
double bytes_of(const Request& r) {
  double bytes = 0;
  const auto add = [&](const TensorDesc& operand, double times) {
    if (operand.present())
      bytes += times * static_cast<double>(operand.elements()) * static_cast<double>(size_of(operand.dtype));
  };
  add(r.inputs[kX], 2);
  add(r.inputs[kCos], 1);
  add(r.inputs[kSin], 1);
  add(r.inputs[kKey], 2);
  add(r.inputs[kValue], 2);
  add(r.inputs[kIndex], 1);
  return bytes;
}

void add_rotation(GpuKernel& kernel, const Request& r) {
  constexpr std::uint32_t kSimdgroups = 4;  // of a threadgroup, with a row each
  const RopeArgs args = arguments(r);
  const std::int64_t heads = std::int64_t{args.heads} + args.key_heads + args.value_heads;
  const std::int32_t rows = count32(r.op, std::int64_t{args.batch} * args.length * heads);
  if (rows == 0) return;
  const bool cached = r.inputs[kIndex].present();
  const auto is_float = [&](Input input) { return r.inputs[input].dtype == DType::kFloat32; };
  Dispatch launch("rope", function_name("rope", r.inputs[kX].dtype));
  launch.with(args).constant(kFcRopeInterleaved, std::get<RopeAttrs>(r.op.attrs).interleaved);
  launch.constant(kFcRopeCached, cached);
  launch.constant(kFcRopeFloatCos, is_float(kCos)).constant(kFcRopeFloatSin, is_float(kSin));
  launch.input(kBufferRopeX, kX, r).input(kBufferRopeCos, kCos, r).input(kBufferRopeSin, kSin, r);
  launch.input(kBufferRopeKey, kKey, r).input(kBufferRopeValue, kValue, r);
  launch.input(kBufferRopeIndex, kIndex, r).output(kBufferRopeOut, kOut, r);
  launch.output(kBufferRopeKeyOut, kKeyOut, r).output(kBufferRopeValueOut, kValueOut, r);
  if (cached) {
    launch.status(kBufferRopeStatus);
  } else {
    launch.nothing(kBufferRopeStatus);
  }
  launch.grid({ceil_div(rows, kSimdgroups), 1, 1}, {kSimd * kSimdgroups, 1, 1});
  kernel.add(std::move(launch));
}

}  // namespace

KernelPtr make_rope(const Request& request) {
  Request r = request;
  r.inputs.resize(kInputs);
  r.outputs.resize(kOutputs);
  const bool cached = r.inputs[kKeyCache].present();
  auto kernel = std::make_unique<GpuKernel>(cached ? "rope[cached]" : "rope");
  if (cached) add_copy(*kernel, r, kKeyOut, kKeyCache);
  if (r.inputs[kValueCache].present()) add_copy(*kernel, r, kValueOut, kValueCache);
  add_rotation(*kernel, r);
  kernel->set_cost(3.0 * static_cast<double>(r.inputs[kX].elements()), bytes_of(r));
  return kernel;
}

}  // namespace npu::gpu
