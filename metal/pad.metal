// Padding: each element of the output finds where it comes from, dimension by dimension.
#include "nest.h"

constant int kKind [[function_constant(kFcPadKind)]];  // PadKind

// Where position o of dimension d comes from, or -1.
inline int source(constant PadArgs& args, int d, uint o) {
  const int in = args.in[d];
  int i = int(o) - args.low[d];
  if (i >= 0 && i < in) return i;
  switch (PadKind(kKind)) {
    case PadKind::kConstant:
      return -1;
    case PadKind::kReflect:
      i = i < 0 ? -i : 2 * (in - 1) - i;
      break;
    case PadKind::kReplicate:
      break;
    case PadKind::kCircular:
      i = (i % in + in) % in;
      break;
  }
  return clamp(i, 0, in - 1);
}

template <typename T>
[[kernel]] void pad(constant PadArgs& args [[buffer(kBufferArgs)]], const device T* x [[buffer(kBufferX)]],
                    device T* y [[buffer(kBufferY)]], uint2 at [[thread_position_in_grid]]) {
  const int last = args.rank - 1;
  if (at.x >= uint(args.out[last]) || at.y >= uint(args.rows)) return;
  const int column = source(args, last, at.x);
  bool inside = column >= 0;
  int64_t to = at.x * args.y_step[last], from = column * args.x_step[last];
  uint rest = at.y;
  for (int d = last - 1; d >= 0; --d) {
    uint o = rest;
    if (d > 0) {  // the outermost one takes what is left
      const uint extent = uint(args.out[d]);
      rest /= extent;
      o -= rest * extent;
    }
    const int i = source(args, d, o);
    inside = inside && i >= 0;
    to += o * args.y_step[d];
    from += i * args.x_step[d];
  }
  y[to] = inside ? x[from] : T(args.fill);
}

NPU_INSTANTIATE_WORDS(pad)
