// Matrix products of integers, which wrap: one thread for each element of the result.
#include "nest.h"

template <typename T>
[[kernel]] void matmul_integers(constant MatmulIntegersArgs& args [[buffer(kBufferArgs)]],
                                const device T* left [[buffer(kBufferLeft)]],
                                const device T* right [[buffer(kBufferRight)]],
                                device T* y [[buffer(kBufferResult)]],
                                uint index [[thread_position_in_grid]]) {
  if (index >= uint(args.count)) return;
  const Offsets<3> at = walk(args.results, index);
  const device T* a = left + at.of[1];
  const device T* b = right + at.of[2];
  uint64_t sum = 0;  // no overflow of signed numbers
  for (int k = 0; k < args.depth; ++k, a += args.left_step, b += args.right_step)
    sum += uint64_t(int64_t(*a)) * uint64_t(int64_t(*b));
  y[at.of[0]] = T(sum);
}

NPU_INSTANTIATE(matmul_integers, char)
NPU_INSTANTIATE(matmul_integers, short)
NPU_INSTANTIATE(matmul_integers, int)
NPU_INSTANTIATE(matmul_integers, long)
NPU_INSTANTIATE(matmul_integers, uchar)
