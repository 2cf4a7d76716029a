// Pooling: a thread for each result, or for four neighbouring channels, looks at the cells of its window.
#include "fold.h"

constant bool kMaximum [[function_constant(kFcWindowMaximum)]];
constant bool kAdaptive [[function_constant(kFcWindowAdaptive)]];
// Neighbouring threads are neighbouring channels.
constant bool kChannelsLast [[function_constant(kFcWindowChannelsLast)]];
constant bool kHasIndices [[function_constant(kFcWindowHasIndices)]];
constant bool kCountPadding [[function_constant(kFcWindowCountPadding)]];

// The cells of a window along one axis that lie inside the input.
struct Cells {
  int first;
  int count;
  int covered;  // cells that an average divides by
};

// The cells k of 0 <= k < size whose position start + k * dilation is below `end`.
inline int cells_below(int end, int start, constant WindowAxis& axis) {
  if (end <= start) return 0;
  return min(axis.window, (end - start + axis.dilation - 1) / axis.dilation);
}

inline Cells cells_of(constant WindowAxis& axis, uint o) {
  if (kAdaptive) {
    const int first = int(int64_t(o) * axis.in / axis.out);
    const int end = int((int64_t(o + 1) * axis.in + axis.out - 1) / axis.out);
    return {first, end - first, end - first};
  }
  const int start = int(o) * axis.stride - axis.padding;
  const int skipped = min(axis.window, start < 0 ? (axis.dilation - start - 1) / axis.dilation : 0);
  const int inside = max(cells_below(axis.in, start, axis) - skipped, 0);
  const int covered = kCountPadding ? cells_below(axis.in + axis.padding, start, axis) : inside;
  return {start + skipped * axis.dilation, inside, covered};
}

struct Window {
  Cells axes[3];
  int64_t x, y, indices;  // offsets
};

// The window of the result at `at`: x is the innermost dimension of y in memory, y all others.
inline Window window_of(constant WindowArgs& args, uint2 at, uint channels) {
  uint o[3];
  uint rest = at.y, channel = at.x * channels;
  if (kChannelsLast) {
    o[2] = rest % uint(args.axes[2].out);
    rest /= uint(args.axes[2].out);
  } else {
    o[2] = at.x;
  }
  o[1] = rest % uint(args.axes[1].out);
  rest /= uint(args.axes[1].out);
  o[0] = rest % uint(args.axes[0].out);
  rest /= uint(args.axes[0].out);
  if (!kChannelsLast) {
    channel = rest % uint(args.channels);
    rest /= uint(args.channels);
  }
  Window w;
  w.x = rest * args.x_batch + channel * args.x_channel;
  w.y = rest * args.y_batch + channel * args.y_channel;
  w.indices = rest * args.indices_batch + channel * args.indices_channel;
  for (int d = 0; d < 3; ++d) {
    w.axes[d] = cells_of(args.axes[d], o[d]);
    w.x += w.axes[d].first * args.axes[d].x_step;
    w.y += o[d] * args.axes[d].y_step;
    w.indices += o[d] * args.axes[d].indices_step;
  }
  return w;
}

inline bool outside(constant WindowArgs& args, uint2 at, uint channels) {
  const uint columns = uint(kChannelsLast ? args.channels : args.axes[2].out);
  const uint others = uint(args.batch) * uint(args.axes[0].out) * uint(args.axes[1].out) *
                      uint(kChannelsLast ? args.axes[2].out : args.channels);
  return at.x * channels >= columns || at.y >= others;
}

inline float divisor_of(constant WindowArgs& args, Window w) {
  if (args.divisor != 0) return float(args.divisor);
  return float(w.axes[0].covered) * float(w.axes[1].covered) * float(w.axes[2].covered);
}

// Calls f(offset of a cell from the first one, flat index of its position) for the cells of a window in
// order.
template <typename F>
inline void each_cell(constant WindowArgs& args, Window w, thread F& f) {
  const int64_t step0 = args.axes[0].x_step * args.axes[0].dilation;
  const int64_t step1 = args.axes[1].x_step * args.axes[1].dilation;
  const int64_t step2 = args.axes[2].x_step * args.axes[2].dilation;
  for (int i = 0; i < w.axes[0].count; ++i) {
    const int p = (w.axes[0].first + i * args.axes[0].dilation) * args.axes[1].in;
    for (int j = 0; j < w.axes[1].count; ++j) {
      const int q = (p + w.axes[1].first + j * args.axes[1].dilation) * args.axes[2].in + w.axes[2].first;
      int64_t at = w.x + i * step0 + j * step1;
      for (int k = 0; k < w.axes[2].count; ++k, at += step2) f(at, q + k * args.axes[2].dilation);
    }
  }
}

template <typename T, typename V>
struct Maximum {
  const device T* x;
  V best;
  void operator()(int64_t at, int) {
    const V value = load(x + at, best);
    best = select(best, value, value > best);
    best = select(best, value, isnan(value));
  }
};

// The first of equals, NaN before everything.
template <typename T>
struct FirstMaximum {
  const device T* x;
  float best;
  int index;
  bool none;  // so far
  void operator()(int64_t at, int position) {
    const float value = float(x[at]);
    if (none || value > best || (isnan(value) && !isnan(best))) {
      best = value;
      index = position;
    }
    none = false;
  }
};

// A sum, and what rounding took from it.
template <typename T, typename V>
struct Average {
  const device T* x;
  V sum;
  V lost;
  void operator()(int64_t at, int) {
#pragma clang fp contract(off)
    const V value = load(x + at, sum);
    const V total = sum + value;
    const V part = total - sum;
    lost += (sum - (total - part)) + (value - part);
    sum = total;
  }
  V result() const { return select(sum, sum + lost, isfinite(sum)); }
};

// V is float, or float4 for four neighbouring channels.
template <typename T, typename V>
[[kernel]] void pool(constant WindowArgs& args [[buffer(kBufferArgs)]],
                     const device T* x [[buffer(kBufferX)]], device T* y [[buffer(kBufferY)]],
                     device int64_t* indices [[buffer(kBufferWindowIndices), function_constant(kHasIndices)]],
                     uint2 at [[thread_position_in_grid]]) {
  constexpr uint kChannels = sizeof(V) / sizeof(float);
  if (outside(args, at, kChannels)) return;
  const Window w = window_of(args, at, kChannels);
  if (kHasIndices) {
    FirstMaximum<T> cell = {x, -INFINITY, 0, true};
    each_cell(args, w, cell);
    y[w.y] = T(cell.best);
    indices[w.indices] = cell.index;
  } else if (kMaximum) {
    Maximum<T, V> cell = {x, V(-INFINITY)};
    each_cell(args, w, cell);
    store(y + w.y, cell.best);
  } else {
    Average<T, V> cell = {x, V(0.0f), V(0.0f)};
    each_cell(args, w, cell);
    store(y + w.y, cell.result() / divisor_of(args, w));
  }
}

#define NPU_POOL(name, T, V) template [[host_name(name "_" #T)]] [[kernel]] decltype(pool<T, V>) pool<T, V>;
NPU_POOL("pool", float, float)
NPU_POOL("pool", half, float)
NPU_POOL("pool", bfloat, float)
NPU_POOL("pool_four", float, float4)
NPU_POOL("pool_four", half, float4)
NPU_POOL("pool_four", bfloat, float4)
