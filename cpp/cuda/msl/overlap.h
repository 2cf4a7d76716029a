// Launches that overlap with the one before (programmatic dependent launch, since Hopper): a block may begin
// once all blocks of the launch before have begun, and does what needs no results of it; then it waits for
// its end.
#pragma once

#include "scalars.h"

namespace metal::npu {

NPU_MSL void let_next_launch_begin() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

// Until all launches that this one comes after have ended, and what they wrote can be read.
NPU_MSL void wait_for_inputs() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

}  // namespace metal::npu
