#include "cpu/micro/table.h"

#include "cpu/micro/gemm.h"

#define NPU_TEXT_OF(x) #x
#define NPU_TEXT(x) NPU_TEXT_OF(x)

namespace npu::cpu::NPU_ISA {

void fill(Micro& micro) {
  micro.name = NPU_TEXT(NPU_ISA);
  fill_gemm(micro);
  fill_attention(micro);
  fill_convert(micro);
  fill_copies(micro);
  fill_depthwise(micro);
  fill_fused(micro);
  fill_gemv(micro);
  fill_groups(micro);
  fill_half_steps(micro);
  fill_integers(micro);
  fill_math(micro);
  fill_panels(micro);
  fill_planar(micro);
  fill_quantized(micro);
  fill_quantized_panels(micro);
  fill_quantized_rows(micro);
  fill_rows(micro);
  fill_sampling(micro);
  fill_scans(micro);
  fill_scatter(micro);
  fill_steps(micro);
  fill_storage(micro);
  fill_winograd(micro);
}

}  // namespace npu::cpu::NPU_ISA
