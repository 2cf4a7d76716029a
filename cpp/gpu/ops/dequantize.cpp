#include "gpu/ops/ops.h"
#include "gpu/ops/quantized.h"

namespace npu::gpu {

namespace {

static_assert(static_cast<int>(Quantization::Offset::kPoint) == static_cast<int>(QuantizedOffset::kPoint) &&
              static_cast<int>(Quantization::Offset::kBias) == static_cast<int>(QuantizedOffset::kBias));

const TensorDesc& input_of(const Request& r, int index) { return r.inputs[static_cast<std::size_t>(index)]; }

}  // namespace

void quantized_constants(Dispatch& launch, const Request& r, const Quantization& how,
                         const QuantizedInputs& inputs) {
  const TensorDesc &scales = input_of(r, inputs.scales), &offsets = input_of(r, inputs.offsets);
  launch.constant(kFcQuantizedBits, static_cast<std::int32_t>(how.bits));
  launch.constant(kFcQuantizedSigned, how.is_signed);
  launch.constant(kFcQuantizedOffset, static_cast<std::int32_t>(how.offset));
  launch.constant(kFcQuantizedScaleType, static_cast<std::int32_t>(scales.dtype));
  const DType offset = offsets.present() ? offsets.dtype : DType::kFloat32;
  launch.constant(kFcQuantizedOffsetType, static_cast<std::int32_t>(offset));
  const TensorDesc& units = input_of(r, inputs.units);
  launch.constant(kFcQuantizedUnitType, units.present() ? static_cast<std::int32_t>(units.dtype) : -1);
}

Dispatch dequantize_launch(const Request& r, const Quantization& how, const QuantizedInputs& inputs,
                           const TensorDesc& out) {
  const TensorDesc* const operands[] = {&out, &input_of(r, inputs.q), &input_of(r, inputs.scales),
                                        &input_of(r, inputs.offsets), &input_of(r, inputs.units)};
  const Shape rows(out.shape.begin(), out.shape.end() - 1);
  DequantizeArgs args{};
  std::vector<Shape> strides;
  for (std::size_t k = 0; k < 5; ++k) {
    const TensorDesc& x = *operands[k];
    strides.push_back(x.present() ? Shape(x.strides.begin(), x.strides.end() - 1) : Shape(rows.size(), 0));
    args.first[k] = x.present() ? first_element(x) : 0;
    args.step[k] = x.present() ? x.strides.back() : 0;
  }
  const Nest nest = make_nest(rows, strides);
  args.rows = nest_of<5>(r.op, nest);
  args.depth = count32(r.op, out.shape.back());
  args.group =
      how.group == 0 ? args.depth : static_cast<std::int32_t>(std::min<std::int64_t>(how.group, args.depth));
  args.unit = how.unit == 0 ? 1 : static_cast<std::int32_t>(how.unit / how.group);
  args.count = count32(r.op, nest.elements());
  Dispatch launch("dequantize", function_name("dequantize", out.dtype));
  launch.with(args).input(kBufferX, inputs.q, r).input(kBufferDequantizeScales, inputs.scales, r);
  launch.input(kBufferDequantizeOffsets, inputs.offsets, r).input(kBufferDequantizeUnits, inputs.units, r);
  quantized_constants(launch, r, how, inputs);
  over_rows(launch, ceil_div(args.depth, kQuantizedEach), args.count);
  return launch;
}

KernelPtr make_dequantize(const Request& r) {
  auto kernel = std::make_unique<GpuKernel>("dequantize");
  if (r.outputs[0].elements() == 0) return kernel;
  const Quantization how = quantization_of(std::get<DequantizeAttrs>(r.op.attrs));
  Dispatch launch = dequantize_launch(r, how, {0, 1, 2, 3}, r.outputs[0]);
  launch.output(kBufferY, 0, r);
  kernel->add(std::move(launch));
  return kernel;
}

}  // namespace npu::gpu
