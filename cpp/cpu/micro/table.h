// What the files of this folder put into a Micro, in the namespace of the instruction set they are compiled
// for.
#pragma once

#include "cpu/micro.h"

namespace npu::cpu::NPU_ISA {

void fill(Micro& micro);  // everything

void fill_attention(Micro& micro);
void fill_convert(Micro& micro);
void fill_copies(Micro& micro);
void fill_depthwise(Micro& micro);
void fill_fused(Micro& micro);
void fill_gemv(Micro& micro);
void fill_groups(Micro& micro);
void fill_half_steps(Micro& micro);
void fill_integers(Micro& micro);
void fill_math(Micro& micro);
void fill_panels(Micro& micro);
void fill_planar(Micro& micro);
void fill_quantized(Micro& micro);
void fill_quantized_panels(Micro& micro);
void fill_quantized_rows(Micro& micro);
void fill_rows(Micro& micro);
void fill_sampling(Micro& micro);
void fill_scans(Micro& micro);
void fill_scatter(Micro& micro);
void fill_steps(Micro& micro);
void fill_storage(Micro& micro);
void fill_winograd(Micro& micro);

}  // namespace npu::cpu::NPU_ISA
