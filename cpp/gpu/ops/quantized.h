// Quantised operands of launches.
#pragma once

#include "core/program/quantization.h"
#include "gpu/ops/launch.h"

namespace npu::gpu {

// Which inputs of the op a quantised operand has.
struct QuantizedInputs {
  int q, scales, offsets, units;
};

// Tells a launch how the integers become numbers: metal/quantized.h.
void quantized_constants(Dispatch& launch, const Request& r, const Quantization& how,
                         const QuantizedInputs& inputs);

// Makes the numbers; `out` lies where the caller binds kBufferY. Its rows must not be empty.
Dispatch dequantize_launch(const Request& r, const Quantization& how, const QuantizedInputs& inputs,
                           const TensorDesc& out);

}  // namespace npu::gpu
