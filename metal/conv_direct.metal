// Convolutions without blocks: depthwise ones, and whatever is too narrow or too unusual for them.
#include "conv_geometry.h"

// Offsets of a pixel in the result and what is read beside it.
inline RowOffsets pixel_offsets(constant ConvArgs& args, uint pixel) {
  const uint rows = inner_of(args.product.rows);
  const uint block = args.product.rows.rank == 1 ? 0 : pixel / rows;
  return row_offsets(args.product, block_offsets(args.product, block), int(pixel - block * rows));
}

// Four channels as floats, of which those from `left` on are not there.
template <typename T>
inline float4 some_of_four(const device T* from, int left) {
  if (left >= 4) return load4(from);
  float4 value = float4(0.0f);
  NPU_UNROLL
  for (int k = 0; k < 4; ++k) {
    if (k < left) value[k] = float(from[k]);
  }
  return value;
}

// One filter for each channel, weights packed as [tap][channel]. A thread makes four channels of
// kDepthwisePixels pixels.
template <typename T>
[[kernel]] void conv_depthwise(constant ConvArgs& args [[buffer(kBufferArgs)]],
                               const device T* x [[buffer(kBufferLeft)]],
                               const device T* weights [[buffer(kBufferRight)]], NPU_ENDS,
                               uint3 at [[thread_position_in_grid]]) {
  const int channel = int(at.x) * kConvChannels, left = args.groups - channel, width = args.out[2];
  const uint lines = uint(args.pixels) / uint(width);
  const int first = int(at.y) * kDepthwisePixels;
  if (left <= 0 || first >= width || at.z >= lines) return;
  const uint pixel = at.z * uint(width) + uint(first);
  const Window window = window_of(args, pixel);
  x += args.product.first[NPU_LEFT] + channel;
  weights += channel;
  float4 sums[kDepthwisePixels];
  NPU_UNROLL
  for (int p = 0; p < kDepthwisePixels; ++p) sums[p] = float4(0.0f);
  Tap tap = {0, 0, 0, 0};
  for (tap.d = 0; tap.d < args.taps[0]; ++tap.d) {
    for (tap.h = 0; tap.h < args.taps[1]; ++tap.h) {
      for (tap.w = 0; tap.w < args.taps[2]; ++tap.w, weights += args.groups) {
        const float4 factors = some_of_four(weights, left);
        Window moved = window;
        NPU_UNROLL
        for (int p = 0; p < kDepthwisePixels; ++p, moved.w += args.stride[2]) {
          bool inside;
          const int64_t offset = offset_of(args, moved, tap, inside);
          if (inside) sums[p] = fma(some_of_four(x + offset, left), factors, sums[p]);
        }
      }
    }
  }
  const Ends ends = NPU_GATHER_ENDS;
  NPU_UNROLL
  for (int p = 0; p < kDepthwisePixels; ++p) {
    if (first + p >= width) continue;
    finish_columns(sums[p], args.product, ends, pixel_offsets(args, pixel + uint(p)), channel, args.groups);
  }
}

// Any convolution: a thread makes up to four channels of one pixel.
template <typename T>
[[kernel]] void conv_direct(constant ConvArgs& args [[buffer(kBufferArgs)]],
                            const device T* x [[buffer(kBufferLeft)]],
                            const device T* weights [[buffer(kBufferRight)]], NPU_ENDS,
                            uint3 at [[thread_position_in_grid]]) {
  const int column = int(at.x) * kConvChannels, left = min(args.columns - column, kConvChannels);
  const uint pixel = at.y, group = at.z;
  if (left <= 0 || pixel >= uint(args.pixels) || group >= uint(args.groups)) return;
  const Window window = window_of(args, pixel);
  x += args.product.first[NPU_LEFT] + int64_t(group) * args.channels * args.x_channel;
  weights += args.product.first[NPU_RIGHT] + int64_t(group) * args.weight_group +
             int64_t(column) * args.weight_column;
  float4 total = float4(0.0f);
  Tap tap = {0, 0, 0, 0};
  for (tap.d = 0; tap.d < args.taps[0]; ++tap.d) {
    for (tap.h = 0; tap.h < args.taps[1]; ++tap.h) {
      for (tap.w = 0; tap.w < args.taps[2]; ++tap.w) {
        bool inside;
        const device T* from = x + offset_of(args, window, tap, inside);
        if (!inside) continue;
        const device T* w = weights + int64_t(tap.d) * args.weight_step[0] +
                            int64_t(tap.h) * args.weight_step[1] + int64_t(tap.w) * args.weight_step[2];
        float4 sum = float4(0.0f);
        for (int c = 0; c < args.channels; ++c, from += args.x_channel, w += args.weight_channel) {
          const float value = float(*from);
          for (int k = 0; k < left; ++k)
            sum[k] = fma(value, float(w[int64_t(k) * args.weight_column]), sum[k]);
        }
        total += sum;
      }
    }
  }
  const Ends ends = NPU_GATHER_ENDS;
  const int first = int(group) * args.columns;
  finish_columns(total, args.product, ends, pixel_offsets(args, pixel), first + column, first + args.columns);
}

#if NPU_ONLY < 0 || NPU_ONLY == NPU_FLOAT32
NPU_INSTANTIATE(conv_depthwise, float)
NPU_INSTANTIATE(conv_direct, float)
#endif
#if NPU_ONLY < 0 || NPU_ONLY == NPU_FLOAT16
NPU_INSTANTIATE(conv_depthwise, half)
NPU_INSTANTIATE(conv_direct, half)
#endif
#if NPU_ONLY < 0 || NPU_ONLY == NPU_BFLOAT16
NPU_INSTANTIATE(conv_depthwise, bfloat)
NPU_INSTANTIATE(conv_direct, bfloat)
#endif
