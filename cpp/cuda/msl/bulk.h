// What MSL has no words for, since Hopper: copies of whole rows to threadgroup memory that one thread begins,
// and barriers that say when they are there. For the kernels of ../kernels.
#pragma once

#include "tensor.h"

namespace metal::npu {

// A barrier of one copy at a time: phase after phase, each ends when its copy is there. One thread prepares
// those of its simdgroup, then says that copies may use them; the others see them after a simdgroup_barrier.
NPU_MSL void prepare_copies(ulong* barrier) {
#if __CUDA_ARCH__ >= 900
  asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(threadgroup_address(barrier)) : "memory");
#endif
}
NPU_MSL void let_copies_begin() {
#if __CUDA_ARCH__ >= 900
  asm volatile("fence.mbarrier_init.release.cluster;\n\tfence.proxy.async.shared::cta;" ::: "memory");
#endif
}

// Has the element of 2 bytes or more on its way to the core's cache.
NPU_MSL void touch(const void* from) {
  asm volatile(
      "{\n\t.reg .b16 unused;\n\tld.global.b16 unused, [%0];\n\t}" ::"l"(__cvta_generic_to_global(from))
      : "memory");
}

// What is made of it is made anew each time, rather than kept in registers.
NPU_MSL void keep_packed(uint4& x) { asm volatile("" : "+r"(x.x), "+r"(x.y), "+r"(x.z), "+r"(x.w)); }

// Begins the barrier's next phase, and its copy. Addresses and `bytes` are multiples of 16.
NPU_MSL void copy_row(void* to, const void* from, uint bytes, ulong* barrier) {
#if __CUDA_ARCH__ >= 900
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(threadgroup_address(barrier)),
               "r"(bytes)
               : "memory");
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
          threadgroup_address(to)),
      "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(threadgroup_address(barrier))
      : "memory");
#endif
}

// Has a row on its way to the cache that all cores share. The address and `bytes` are multiples of 16.
NPU_MSL void prefetch_row(const void* from, uint bytes) {
#if __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(__cvta_generic_to_global(from)), "r"(bytes)
               : "memory");
#endif
}

// Until the phase has ended whose number is even (0) or odd (1), counted from 0: that is the present one or
// the one before.
NPU_MSL void wait_for_row(ulong* barrier, uint parity) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "{\n\t.reg .pred there;\n\t"
      "wait_for_row:\n\t"
      "mbarrier.try_wait.parity.shared::cta.b64 there, [%0], %1;\n\t"
      "@!there bra wait_for_row;\n\t}" ::"r"(threadgroup_address(barrier)),
      "r"(parity)
      : "memory");
#endif
}

}  // namespace metal::npu
