#include "core/geometry/pad.h"

#include <bit>
#include <cstdlib>
#include <cstring>

#include "core/base/to_integer.h"
#include "gpu/ops/launch.h"
#include "gpu/ops/ops.h"

namespace npu::gpu {

namespace {

static_assert(static_cast<int>(PadAttrs::Kind::kConstant) == static_cast<int>(PadKind::kConstant) &&
              static_cast<int>(PadAttrs::Kind::kCircular) == static_cast<int>(PadKind::kCircular));

std::uint16_t half_bits(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000u, a = bits & 0x7fffffffu;
  if (a > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u);
  if (a >= 0x477ff000u) return static_cast<std::uint16_t>(sign | 0x7c00u);  // rounds to 65536 or more
  if (a < 0x38800000u) {  // denormal: the addition rounds at the right bit
    const auto rounded = std::bit_cast<std::uint32_t>(std::bit_cast<float>(a) + 0.5f);
    return static_cast<std::uint16_t>(sign | (rounded - 0x3f000000u));
  }
  return static_cast<std::uint16_t>(sign | ((a - 0x38000000u + 0xfffu + ((a >> 13) & 1u)) >> 13));
}

std::uint16_t bfloat_bits(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>((bits >> 16) | 0x40u);
  return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

std::uint64_t bits_of(double value, DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return std::bit_cast<std::uint32_t>(static_cast<float>(value));
    case DType::kFloat16:
      return half_bits(static_cast<float>(value));
    case DType::kBFloat16:
      return bfloat_bits(static_cast<float>(value));
    case DType::kBool:
      return value != 0 ? 1 : 0;
    default:
      return static_cast<std::uint64_t>(to_integer(value, dtype));
  }
}

}  // namespace

KernelPtr make_pad(const Request& r) {
  const auto& attrs = std::get<PadAttrs>(r.op.attrs);
  const TensorDesc& y = r.outputs[0];
  auto kernel = std::make_unique<GpuKernel>("pad");
  if (y.elements() == 0) return kernel;
  const std::vector<PadDim> dims = pad_dims(attrs, y, r.inputs[0]);
  PadArgs args{};
  args.rank = static_cast<std::int32_t>(dims.size());
  args.fill = bits_of(attrs.value, y.dtype);
  std::int64_t rows = 1;
  for (std::size_t d = 0; d < dims.size(); ++d) {
    count32(r.op, 2 * (dims[d].in + std::abs(dims[d].low)));
    args.out[d] = count32(r.op, dims[d].out);
    args.in[d] = static_cast<std::int32_t>(dims[d].in);
    args.low[d] = static_cast<std::int32_t>(dims[d].low);
    args.y_step[d] = dims[d].y_step;
    args.x_step[d] = dims[d].x_step;
    if (d + 1 < dims.size()) rows *= dims[d].out;
  }
  args.rows = count32(r.op, rows);
  Dispatch launch("pad", Moved{{}, size_of(y.dtype), false}.function("pad"));
  launch.with(args).constant(kFcPadKind, static_cast<std::int32_t>(attrs.kind));
  launch.input(kBufferX, 0, r).output(kBufferY, 0, r);
  over_rows(launch, dims.back().out, rows);
  kernel->add(std::move(launch));
  return kernel;
}

}  // namespace npu::gpu
