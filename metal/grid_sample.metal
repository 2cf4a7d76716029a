// Elements at given positions: a thread for each result.
#include "nest.h"

constant int kKind [[function_constant(kFcGridKind)]];        // GridKind
constant int kPadding [[function_constant(kFcGridPadding)]];  // GridPadding
constant int kDims [[function_constant(kFcGridDims)]];        // 2 or 3
// Neighbouring threads are neighbouring channels.
constant bool kChannelsLast [[function_constant(kFcGridChannelsLast)]];
constant bool kFloatGrid [[function_constant(kFcGridFloat)]];  // else of the dtype of x

constant int kTaps = kKind == int(GridKind::kCubic) ? 4 : kKind == int(GridKind::kLinear) ? 2 : 1;
constant int kTapsDeep = kDims > 2 ? kTaps : 1;
constant constexpr int kMostTaps = 4;

// Where a result takes from along one axis, and how much.
struct Taps {
  int64_t offset[kMostTaps];  // steps included
  float weight[kMostTaps];
  bool inside[kMostTaps];
};

inline float padded(float at, float last, float low, float span) {
  if (kPadding == int(GridPadding::kZeros)) return at;
  if (kPadding == int(GridPadding::kReflection)) {
    const float away = abs(at - low), turns = floor(away / span);
    const float rest = span > 0.0f ? away - turns * span : 0.0f;
    at = (turns - 2.0f * floor(turns * 0.5f) == 1.0f ? span - rest : rest) + low;
  }
  return isnan(at) ? 0.0f : clamp(at, 0.0f, last);
}

inline float near_weight(float t) { return (1.25f * t - 2.25f) * t * t + 1.0f; }
inline float far_weight(float t) { return ((-0.75f * t + 3.75f) * t - 6.0f) * t + 3.0f; }

// The elements that each coordinate stands between.
inline Taps taps_of(constant GridAxisArgs& axis, float grid, float shift, float low) {
#pragma clang fp contract(off)
  const float last = float(axis.in - 1);
  float at = (grid + 1.0f) * axis.scale - shift;
  float first = at;
  Taps taps;
  if (kKind == int(GridKind::kNearest)) {
    first = rint(padded(at, last, low, axis.span));
    taps.weight[0] = 1.0f;
  } else if (kKind == int(GridKind::kLinear)) {
    at = padded(at, last, low, axis.span);
    first = floor(at);
    taps.weight[0] = 1.0f - (at - first);
    taps.weight[1] = at - first;
  } else {
    first = floor(at);
    const float t = at - first;
    taps.weight[0] = far_weight(t + 1.0f);
    taps.weight[1] = near_weight(t);
    taps.weight[2] = near_weight(1.0f - t);
    taps.weight[3] = far_weight(2.0f - t);
    first -= 1.0f;
  }
  for (int k = 0; k < kTaps; ++k) {
    float place = first + float(k);
    if (kKind == int(GridKind::kCubic)) place = padded(place, last, low, axis.span);
    taps.inside[k] = place >= 0.0f && place <= last;
    taps.offset[k] = taps.inside[k] ? int64_t(int(place)) * axis.x_step : 0;
  }
  return taps;
}

inline Taps no_taps() {
  Taps taps;
  taps.offset[0] = 0;
  taps.weight[0] = 1.0f;
  taps.inside[0] = true;
  return taps;
}

template <typename T>
inline float coordinate(const device char* grid, int64_t at) {
  return kFloatGrid ? ((const device float*)grid)[at] : float(((const device T*)grid)[at]);
}

template <typename T>
[[kernel]] void grid_sample(constant GridArgs& args [[buffer(kBufferArgs)]],
                            const device T* x [[buffer(kBufferX)]], device T* y [[buffer(kBufferY)]],
                            const device char* grid [[buffer(kBufferGrid)]],
                            uint2 at [[thread_position_in_grid]]) {
  const uint3 out = uint3(uint(args.axes[0].out), uint(args.axes[1].out), uint(args.axes[2].out));
  const uint columns = kChannelsLast ? uint(args.channels) : out.z;
  const uint rows = uint(args.batch) * out.x * out.y * (kChannelsLast ? out.z : uint(args.channels));
  if (at.x >= columns || at.y >= rows) return;
  uint3 o;
  uint rest = at.y, channel = at.x;
  o.z = kChannelsLast ? rest % out.z : at.x;
  if (kChannelsLast) rest /= out.z;
  o.y = rest % out.y;
  rest /= out.y;
  o.x = rest % out.x;
  rest /= out.x;
  if (!kChannelsLast) {
    channel = rest % uint(args.channels);
    rest /= uint(args.channels);
  }
  const int64_t place = rest * args.grid_batch + o.x * args.axes[0].grid_step + o.y * args.axes[1].grid_step +
                        o.z * args.axes[2].grid_step;
  Taps a = no_taps();
  if (kDims > 2)
    a = taps_of(args.axes[0], coordinate<T>(grid, place + args.axes[0].coordinate), args.shift, args.low);
  const Taps b =
      taps_of(args.axes[1], coordinate<T>(grid, place + args.axes[1].coordinate), args.shift, args.low);
  const Taps c =
      taps_of(args.axes[2], coordinate<T>(grid, place + args.axes[2].coordinate), args.shift, args.low);
  const device T* from = x + rest * args.x_batch + channel * args.x_channel;
  float sum = 0.0f;
  for (int i = 0; i < kTapsDeep; ++i) {
    for (int j = 0; j < kTaps; ++j) {
      for (int k = 0; k < kTaps; ++k) {
        const bool inside = a.inside[i] && b.inside[j] && c.inside[k];
        if (!inside && (kDims > 2 || kTaps == 1)) continue;
        const float value = inside ? float(from[a.offset[i] + b.offset[j] + c.offset[k]]) : 0.0f;
        sum = kTaps == 1 ? value : sum + value * (a.weight[i] * b.weight[j] * c.weight[k]);
      }
    }
  }
  y[rest * args.y_batch + channel * args.y_channel + o.x * args.axes[0].y_step + o.y * args.axes[1].y_step +
    o.z * args.axes[2].y_step] = T(sum);
}

NPU_INSTANTIATE(grid_sample, float)
NPU_INSTANTIATE(grid_sample, half)
NPU_INSTANTIATE(grid_sample, bfloat)
