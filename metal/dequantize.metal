// Quantised rows as numbers.
#include "quantized.h"

template <typename T>
[[kernel]] void dequantize(constant DequantizeArgs& args [[buffer(kBufferArgs)]],
                           const device uchar* q [[buffer(kBufferX)]], device T* out [[buffer(kBufferY)]],
                           const device char* scales [[buffer(kBufferDequantizeScales)]],
                           const device char* offsets [[buffer(kBufferDequantizeOffsets)]],
                           const device char* units [[buffer(kBufferDequantizeUnits)]],
                           uint2 at [[thread_position_in_grid]]) {
  const int begin = int(at.x) * kQuantizedEach;
  if (begin >= args.depth || at.y >= uint(args.count)) return;
  const Offsets<5> row = walk(args.rows, at.y);
  const int64_t byte = int64_t(begin) * kBits / 8, bytes = (int64_t(args.depth) * kBits + 7) / 8;
  const ulong all =
      eight_integers(q + args.first[1] + row.of[1] + byte * args.step[1], args.step[1], bytes - byte);
  device T* to = out + args.first[0] + row.of[0];
  const int end = min(begin + kQuantizedEach, args.depth);
  int group = -1;
  Factors factors = {0.0f, 0.0f};
  for (int i = begin; i < end; ++i) {
    if (i / args.group != group) {
      group = i / args.group;
      const int unit = group / args.unit * units_of_group();
      factors = factors_at(
          {scales, offsets, units},
          {args.first[2] + row.of[2] + group * args.step[2], args.first[3] + row.of[3] + group * args.step[3],
           args.first[4] + row.of[4] + unit * args.step[4], args.step[4]});
    }
    to[i * args.step[0]] = T(fma(factors.scale, centred(all, i - begin), factors.shift));
  }
}

NPU_INSTANTIATE_FLOATS(dequantize)
