// Rows of attention: scores scaled and masked, values weighed, rotations.
#include <utility>

#include "cpu/micro/functions.h"
#include "cpu/micro/half.h"
#include "cpu/micro/table.h"

namespace npu::cpu::NPU_ISA {

namespace {

typedef std::uint8_t U8 __attribute__((vector_size(kLanes)));

inline I32 chosen(const std::uint8_t* p) {
  U8 bytes;
  __builtin_memcpy(&bytes, p, sizeof bytes);
  return __builtin_convertvector(bytes, I32) != 0;
}

// x = change(x, its index), and the maximum of that; NaN wins.
template <class F>
inline float change_and_peak(float* x, std::int64_t n, F change) {
  const float least = -__builtin_inff();
  F32 acc = all(least);
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const F32 v = change(load(x + i), i, kLanes);
    store(x + i, v);
    acc = max_of(acc, v);
  }
  float best = lane_max(acc);
  if (i == n) return best;
  store_part(x + i, change(load_part(x + i, n - i), i, n - i), n - i);
  for (; i < n; ++i) best = x[i] > best || x[i] != x[i] ? x[i] : best;
  return best;
}

float scaled_peak(float* x, float scale, const float* addend, const std::uint8_t* seen, std::int64_t n) {
  if (addend != nullptr) {
    return change_and_peak(x, n, [=](F32 v, std::int64_t i, std::int64_t count) {
      return v * scale + (count == kLanes ? load(addend + i) : load_part(addend + i, count));
    });
  }
  if (seen != nullptr) {
    return change_and_peak(x, n, [=](F32 v, std::int64_t i, std::int64_t count) {
      I32 mask = {};
      if (count == kLanes) {
        mask = chosen(seen + i);
      } else {
        for (std::int64_t j = 0; j < count; ++j) mask[j] = seen[i + j] != 0 ? -1 : 0;
      }
      return mask ? v * scale : all(-__builtin_inff());
    });
  }
  return change_and_peak(x, n, [=](F32 v, std::int64_t, std::int64_t) { return v * scale; });
}

// exp(x) for x <= 0; less than the least normal number is 0. For others it is anything.
inline F32 weight_of(F32 x) {
  const F32 shifted = x * 1.44269504088896341f + 12582912.0f, n = shifted - 12582912.0f;
  const F32 p = exp_of_rest(x, n);
  // n is in the last bits of what was shifted: added to the exponent, it is a factor.
  const F32 y = floats((I32)((U32)bits(p) + ((U32)bits(shifted) << 23)));
  return x < -87.0f ? F32{} : y;
}

float weights(float* x, float peak, std::int64_t n) {
  F32 total[2] = {};
  std::int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    for (int j = 0; j < 2; ++j) {
      const F32 y = weight_of(load(x + i + j * kLanes) - peak);
      total[j] += y;
      store(x + i + j * kLanes, y);
    }
  }
  for (; i + kLanes <= n; i += kLanes) {
    const F32 y = weight_of(load(x + i) - peak);
    total[0] += y;
    store(x + i, y);
  }
  if (i < n) {
    store_part(x + i, weight_of(load_part(x + i, n - i) - peak), n - i);
    total[1] += load_part(x + i, n - i);  // without the lanes beyond the end
  }
  return static_cast<float>(lane_sum(total[0] + total[1]));
}

bool any_set(const std::uint8_t* x, std::int64_t n) {
  typedef std::uint8_t Wide __attribute__((vector_size(64)));
  typedef std::uint64_t Words __attribute__((vector_size(64)));
  Wide acc = {};
  std::int64_t i = 0;
  for (; i + 64 <= n; i += 64) {
    Wide v;
    __builtin_memcpy(&v, x + i, sizeof v);
    acc |= v;
  }
  const Words words = (Words)acc;
  std::uint64_t bits = 0;
  for (int j = 0; j < 8; ++j) bits |= words[j];
  for (; i < n; ++i) bits |= x[i];
  return bits != 0;
}

int addends_above(const float* x, float bound, std::int64_t n) {
  const float least = -__builtin_inff();
  I32 low = {}, none = {};  // lanes with something above
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const F32 v = load(x + i);
    low |= ~(v <= bound);
    none |= ~(v <= least);
  }
  std::int32_t above = 0, finite = 0;
  for (int j = 0; j < kLanes; ++j) above |= low[j], finite |= none[j];
  for (; i < n; ++i) {
    if (!(x[i] <= bound)) above = -1;
    if (!(x[i] <= least)) finite = -1;
  }
  return above != 0 ? 2 : finite != 0 ? 1 : 0;
}

// Sums of as many columns as there are registers for, over all values; then the next columns.
#if defined(__AVX512F__)
constexpr int kVectors = 2;
#else
constexpr int kVectors = 1;
#endif

template <class T, F32 (*widen)(const T*), F32 (*widen_part)(const T*, std::int64_t), int rows>
void weigh_rows(const WeighCall& call) {
  const auto columns = [&](std::int64_t e, auto vectors, auto read, auto write) {
    constexpr int kCount = decltype(vectors)::value;
    F32 acc[rows][kCount] = {};
    const T* v = static_cast<const T*>(call.values) + e;
    for (std::int64_t t = 0; t < call.count; ++t, v += call.stride) {
      __builtin_prefetch(v + call.count * call.stride);  // of the next call
      F32 x[kCount];
      for (int j = 0; j < kCount; ++j) x[j] = read(v + j * kLanes);
#pragma GCC unroll 8
      for (int i = 0; i < rows; ++i) {
        const F32 w = all(call.weights[i * call.weights_stride + t]);
        for (int j = 0; j < kCount; ++j) acc[i][j] += w * x[j];
      }
    }
    for (int i = 0; i < rows; ++i) {
      for (int j = 0; j < kCount; ++j) write(call.sums + i * call.sums_stride + e + j * kLanes, acc[i][j]);
    }
  };
  const auto add = [](float* to, F32 v) { store(to, load(to) + v); };
  std::int64_t e = 0;
  for (; e + kVectors * kLanes <= call.width; e += kVectors * kLanes)
    columns(e, std::integral_constant<int, kVectors>(), widen, add);
  for (; e + kLanes <= call.width; e += kLanes) columns(e, std::integral_constant<int, 1>(), widen, add);
  if (const std::int64_t left = call.width - e; left > 0) {
    columns(
        e, std::integral_constant<int, 1>(), [left](const T* p) { return widen_part(p, left); },
        [left](float* to, F32 v) { store_part(to, load_part(to, left) + v, left); });
  }
}

template <F32 (*widen)(U16)>
inline F32 half_at(const std::uint16_t* p) {
  return widen(load16(p));
}
template <F32 (*widen)(U16)>
inline F32 half_part(const std::uint16_t* p, std::int64_t n) {
  return widen(load16_part(p, n));
}

template <class T, F32 (*widen)(const T*), F32 (*widen_part)(const T*, std::int64_t), int... rows>
constexpr auto weighers(std::integer_sequence<int, rows...>) {
  struct Table {
    void (*at[sizeof...(rows)])(const WeighCall&);
  };
  return Table{{weigh_rows<T, widen, widen_part, rows + 1>...}};
}

template <class T, F32 (*widen)(const T*), F32 (*widen_part)(const T*, std::int64_t)>
void weigh(const WeighCall& call) {
  static constexpr auto table = weighers<T, widen, widen_part>(std::make_integer_sequence<int, kGemvRows>{});
  table.at[call.rows - 1](call);
}

void rotate(const float* x, const float* cos, const float* sin, bool interleaved, float* y, std::int64_t n) {
  if (interleaved) {
    for (std::int64_t i = 0; i < n; i += 2) {
      const float a = x[i], b = x[i + 1];
      y[i] = a * cos[i] - b * sin[i];
      y[i + 1] = b * cos[i + 1] + a * sin[i + 1];
    }
    return;
  }
  const std::int64_t half = n / 2;
  const float *x1 = x + half, *cos1 = cos + half, *sin1 = sin + half;
  float* const y1 = y + half;
  std::int64_t i = 0;
  for (; i + kLanes <= half; i += kLanes) {
    const F32 a = load(x + i), b = load(x1 + i);
    store(y + i, a * load(cos + i) - b * load(sin + i));
    store(y1 + i, b * load(cos1 + i) + a * load(sin1 + i));
  }
  for (; i < half; ++i) {
    const float a = x[i], b = x1[i];
    y[i] = a * cos[i] - b * sin[i];
    y1[i] = b * cos1[i] + a * sin1[i];
  }
}

}  // namespace

void fill_attention(Micro& micro) {
  micro.scaled_peak = scaled_peak;
  micro.weights = weights;
  micro.any_set = any_set;
  micro.addends_above = addends_above;
  micro.weigh_f32 = weigh<float, load, load_part>;
  micro.weigh_bf16 = weigh<std::uint16_t, half_at<from_bf16>, half_part<from_bf16>>;
  micro.weigh_f16 = weigh<std::uint16_t, half_at<from_f16>, half_part<from_f16>>;
  micro.weigh_i8 = weigh<std::int8_t, load_i8, load_i8_part>;
  micro.rotate = rotate;
}

}  // namespace npu::cpu::NPU_ISA
