// Which elements of its input a convolution's output pixel reads.
#pragma once

#include "epilogue.h"

// There are gaps between the elements of the input.
constant bool kSpreads [[function_constant(kFcConvSpreads)]];

constant bool kShort [[function_constant(kFcConvShort)]];  // offsets in the input fit 32 bits

// Where the window of an output pixel begins, before dilation of the input is taken out; n < 0: no pixel.
struct Window {
  int n, d, h, w;
};

inline Window window_of(constant ConvArgs& args, uint pixel) {
  uint rest = pixel;
  const uint width = uint(args.out[2]), height = uint(args.out[1]), depth = uint(args.out[0]);
  const uint w = rest % width;
  rest /= width;
  const uint h = rest % height;
  rest /= height;
  const uint d = rest % depth;
  Window window;
  window.n = pixel < uint(args.pixels) ? int(rest / depth) : -1;
  window.d = int(d) * args.stride[0] - args.low[0];
  window.h = int(h) * args.stride[1] - args.low[1];
  window.w = int(w) * args.stride[2] - args.low[2];
  return window;
}

// The input coordinate at a position of the padded and dilated input, or -1.
inline int source_of(constant ConvArgs& args, int dim, int at) {
  if (!kSpreads) return at < args.in[dim] ? at : -1;
  const int coordinate = at / args.up[dim];
  return at >= 0 && coordinate * args.up[dim] == at && coordinate < args.in[dim] ? coordinate : -1;
}

// A tap of the kernel, and a channel under it.
struct Tap {
  int c, w, h, d;

  void step(constant ConvArgs& args, int channels) {
    c += channels;
    while (c >= args.channels) {
      c -= args.channels;
      if (++w < args.taps[2]) continue;
      w = 0;
      if (++h < args.taps[1]) continue;
      h = 0;
      ++d;
    }
  }
};

// Offset of what a tap reads; `inside` says whether it is there, and not padding.
inline int64_t offset_of(constant ConvArgs& args, Window window, Tap tap, thread bool& inside) {
  const int d = source_of(args, 0, window.d + tap.d * args.dilation[0]);
  const int h = source_of(args, 1, window.h + tap.h * args.dilation[1]);
  const int w = source_of(args, 2, window.w + tap.w * args.dilation[2]);
  inside = window.n >= 0 && tap.d < args.taps[0] && d >= 0 && h >= 0 && w >= 0;
  if (kShort) {
    return window.n * int(args.x_batch) + tap.c * int(args.x_channel) + d * int(args.x_step[0]) +
           h * int(args.x_step[1]) + w * int(args.x_step[2]);
  }
  return int64_t(window.n) * args.x_batch + int64_t(tap.c) * args.x_channel + int64_t(d) * args.x_step[0] +
         int64_t(h) * args.x_step[1] + int64_t(w) * args.x_step[2];
}
