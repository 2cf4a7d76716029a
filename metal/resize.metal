// Resizing of spatial dimensions: a thread for each result, or for four neighbouring channels.
#include "fold.h"

constant int kKind [[function_constant(kFcResizeKind)]];  // ResizeKind
// Neighbouring threads are neighbouring channels.
constant bool kChannelsLast [[function_constant(kFcResizeChannelsLast)]];
constant bool kNarrow [[function_constant(kFcResizeNarrow)]];  // positions fit into 32 bits
constant int kDims [[function_constant(kFcResizeDims)]];       // that are resized

inline ResizeKind how() { return ResizeKind(kKind); }
constant int kTaps = kKind == int(ResizeKind::kCubic) ? 4 : kKind == int(ResizeKind::kLinear) ? 2 : 1;
constant int kTapsDown = kDims > 1 ? kTaps : 1;  // along the last dimension but one
constant int kTapsDeep = kDims > 2 ? kTaps : 1;
constant constexpr int kMostTaps = 4;

// Where a result takes from along one axis, and how much.
struct Taps {
  int64_t offset[kMostTaps];  // steps included
  float weight[kMostTaps];
};

// A position in the input: a whole number and what is above it, of 1.
struct Position {
  int whole;
  float above, below;  // their sum is 1
};

template <typename I>
inline Position position_of(I times, I offset, I divisor, I o) {
  const I number = o * times + offset;
  I whole = number / divisor;
  I rest = number - whole * divisor;
  if (rest < 0) {
    rest += divisor;
    --whole;
  }
  return {int(whole), float(rest) / float(divisor), float(divisor - rest) / float(divisor)};
}

inline Position position_of(constant ResizeAxis& axis, uint o) {
  if (kNarrow) return position_of(int(axis.times), int(axis.offset), int(axis.divisor), int(o));
  return position_of(axis.times, axis.offset, axis.divisor, int64_t(o));
}

inline float near_weight(float x) {
  constexpr float a = -0.75f;
  return ((a + 2.0f) * x - (a + 3.0f)) * x * x + 1.0f;
}
inline float far_weight(float x) {
  constexpr float a = -0.75f;
  return ((a * x - 5.0f * a) * x + 8.0f * a) * x - 4.0f * a;
}

inline Taps taps_of(constant ResizeAxis& axis, uint o, bool exists) {
  Taps taps;
  if (!exists) {
    taps.offset[0] = 0;
    taps.weight[0] = 1.0f;
    return taps;
  }
  const int last = axis.in - 1;
  if (how() == ResizeKind::kNearest || how() == ResizeKind::kNearestExact) {
    const float shift = how() == ResizeKind::kNearest ? 0.0f : 0.5f;
    const int i = int(min(floor((float(o) + shift) * axis.scale), float(last)));
    taps.offset[0] = min(i, last) * axis.x_step;
    taps.weight[0] = 1.0f;
    return taps;
  }
  Position at = position_of(axis, o);
  if (how() == ResizeKind::kLinear) {
    if (at.whole < 0) at = {0, 0.0f, 1.0f};
    if (at.whole > last) at = {last, 1.0f, 0.0f};
    taps.offset[0] = at.whole * axis.x_step;
    taps.offset[1] = min(at.whole + 1, last) * axis.x_step;
    taps.weight[0] = at.below;
    taps.weight[1] = at.above;
    return taps;
  }
  for (int k = 0; k < 4; ++k) taps.offset[k] = clamp(at.whole + k - 1, 0, last) * axis.x_step;
  taps.weight[0] = far_weight(at.above + 1.0f);
  taps.weight[1] = near_weight(at.above);
  taps.weight[2] = near_weight(at.below);
  taps.weight[3] = far_weight(at.below + 1.0f);
  return taps;
}

// V is float, or float4 for four neighbouring channels.
template <typename T, typename V>
[[kernel]] void resize(constant ResizeArgs& args [[buffer(kBufferArgs)]],
                       const device T* x [[buffer(kBufferX)]], device T* y [[buffer(kBufferY)]],
                       uint2 at [[thread_position_in_grid]]) {
  constexpr uint kChannels = sizeof(V) / sizeof(float);
  const uint3 out = uint3(uint(args.axes[0].out), uint(args.axes[1].out), uint(args.axes[2].out));
  const uint columns = kChannelsLast ? uint(args.channels) : out.z;
  const uint rows = uint(args.batch) * out.x * out.y * (kChannelsLast ? out.z : uint(args.channels));
  if (at.x * kChannels >= columns || at.y >= rows) return;
  uint3 o;
  uint rest = at.y, channel = at.x * kChannels;
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
  const Taps a = taps_of(args.axes[0], o.x, kDims > 2), b = taps_of(args.axes[1], o.y, kDims > 1);
  const Taps c = taps_of(args.axes[2], o.z, true);
  const device T* from = x + rest * args.x_batch + channel * args.x_channel;
  device T* to = y + rest * args.y_batch + channel * args.y_channel + o.x * args.axes[0].y_step +
                 o.y * args.axes[1].y_step + o.z * args.axes[2].y_step;
  if (kTaps == 1) {
    const device T* single = from + a.offset[0] + b.offset[0] + c.offset[0];
    for (uint k = 0; k < kChannels; ++k) to[k] = single[k];
    return;
  }
  V sum = V(0.0f);
  for (int i = 0; i < kTapsDeep; ++i) {
    for (int j = 0; j < kTapsDown; ++j) {
      for (int k = 0; k < kTaps; ++k) {
        // A weight of zero must not turn an infinity next to it into NaN.
        const float weight = a.weight[i] * b.weight[j] * c.weight[k];
        if (weight != 0.0f) sum += load(from + a.offset[i] + b.offset[j] + c.offset[k], sum) * weight;
      }
    }
  }
  store(to, sum);
}

#define NPU_RESIZE(name, T, V) \
  template [[host_name(name "_" #T)]] [[kernel]] decltype(resize<T, V>) resize<T, V>;
NPU_RESIZE("resize", float, float)
NPU_RESIZE("resize", half, float)
NPU_RESIZE("resize", bfloat, float)
NPU_RESIZE("resize_four", float, float4)
NPU_RESIZE("resize_four", half, float4)
NPU_RESIZE("resize_four", bfloat, float4)
