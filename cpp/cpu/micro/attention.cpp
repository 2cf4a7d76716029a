// What attention does to rows besides products: scaled and masked scores, rotations, panels of keys.
#include "micro/functions.h"
#include "micro/table.h"

namespace npu::cpu::NPU_ISA {

namespace {

typedef std::uint8_t U8 __attribute__((vector_size(kLanes)));

inline I32 chosen(const std::uint8_t* p) {
  U8 bytes;
  __builtin_memcpy(&bytes, p, sizeof bytes);
  return __builtin_convertvector(bytes, I32) != 0;
}

// x = change(x, its place), and the maximum of that; NaN wins.
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
  std::uint64_t found = 0;
  for (int j = 0; j < 8; ++j) found |= words[j];
  for (; i < n; ++i) found |= x[i];
  return found != 0;
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
  micro.any_set = any_set;
  micro.rotate = rotate;
}

}  // namespace npu::cpu::NPU_ISA
