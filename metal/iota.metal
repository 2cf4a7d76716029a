// Numbers at even distances, rounded once from what double precision would give.
#include "fold.h"

template <typename T>
inline T number(constant IotaArgs& args, uint i, float) {
  // i, start and step as sums of floats that hold all of their bits that matter.
  const float high = float(i & 0xfffff000u), low = float(i & 0xfffu);
  Exact sum = exact(0.0f);
  for (int k = 0; k < 3; ++k) {
    sum = plus(sum, times(exact(high), exact(args.step[k])));
    sum = plus(sum, times(exact(low), exact(args.step[k])));
  }
  for (int k = 0; k < 3; ++k) sum = plus(sum, exact(args.start[k]));
  return T(value_of(sum));
}

template <typename T>
inline T number(constant IotaArgs& args, uint i, int64_t) {
  return T(args.integer_start + int64_t(i) * args.integer_step);
}

template <typename T>
[[kernel]] void iota(constant IotaArgs& args [[buffer(kBufferArgs)]], device T* y [[buffer(kBufferY)]],
                     uint i [[thread_position_in_grid]]) {
  if (i < uint(args.count)) y[int64_t(i) * args.y_step] = number<T>(args, i, Register<T>(0));
}

NPU_INSTANTIATE_ALL(iota)
