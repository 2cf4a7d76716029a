// Register tiles of matrix products, in the namespace of the instruction set that this file is compiled for.
#pragma once

#include "cpu/micro.h"

namespace npu::cpu::NPU_ISA {

void fill_gemm(Micro& micro);

}  // namespace npu::cpu::NPU_ISA
