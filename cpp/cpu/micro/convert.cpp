// Between float32 and the 16-bit formats, row by row.
#include "cpu/micro/half.h"
#include "cpu/micro/table.h"

namespace npu::cpu::NPU_ISA {

namespace {

template <F32 (*convert)(U16)>
void load_all(const std::uint16_t* x, float* y, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(y + i, convert(load16(x + i)));
  if (i == n) return;
  store_part(y + i, convert(load16_part(x + i, n - i)), n - i);
}

template <U16 (*convert)(F32)>
void store_all(const float* x, std::uint16_t* y, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store16(y + i, convert(load(x + i)));
  if (i == n) return;
  const U16 part = convert(load_part(x + i, n - i));
  for (std::int64_t j = 0; i + j < n; ++j) y[i + j] = part[j];
}

inline F32 load_lanes(const float* p, std::int64_t n) { return n == kLanes ? load(p) : load_part(p, n); }

enum class Residual { kNone, kHalf, kFloat };

// What is the same for all vectors of a tile is not asked again.
template <F32 (*from)(U16), U16 (*to)(F32), Residual residual, bool limited, bool rounded>
inline void finish_lanes(const HalfTile& t, std::int64_t row, std::int64_t at, std::int64_t n) {
  float* const sums = t.sums + row * t.sums_step + at;
  F32 v = load_lanes(sums, n);
  const std::int64_t index = row * t.residual_step + at;
  if constexpr (residual == Residual::kHalf) {
    const std::uint16_t* const p = static_cast<const std::uint16_t*>(t.residual) + index;
    v += from(n == kLanes ? load16(p) : load16_part(p, n));
  } else if constexpr (residual == Residual::kFloat) {
    v += load_lanes(static_cast<const float*>(t.residual) + index, n);
  }
  if constexpr (limited) v = within(v, t.limits.low, t.limits.high);
  if constexpr (!rounded) {
    n == kLanes ? store(sums, v) : store_part(sums, v, n);
    return;
  }
  std::uint16_t* const out = t.out + row * t.out_step + at;
  const U16 half = to(v);
  if (n == kLanes) return store16(out, half);
  for (std::int64_t j = 0; j < n; ++j) out[j] = half[j];
}

template <F32 (*from)(U16), U16 (*to)(F32), Residual residual, bool limited, bool rounded>
void finish_rows(const HalfTile& t) {
  for (std::int64_t row = 0; row < t.rows; ++row) {
    std::int64_t at = 0;
    for (; at + kLanes <= t.n; at += kLanes)
      finish_lanes<from, to, residual, limited, rounded>(t, row, at, kLanes);
    if (at < t.n) finish_lanes<from, to, residual, limited, rounded>(t, row, at, t.n - at);
  }
}

template <F32 (*from)(U16), U16 (*to)(F32), Residual residual>
void finish_with(const HalfTile& t) {
  if (t.limits.apply) {
    t.out ? finish_rows<from, to, residual, true, true>(t) : finish_rows<from, to, residual, true, false>(t);
  } else {
    t.out ? finish_rows<from, to, residual, false, true>(t)
          : finish_rows<from, to, residual, false, false>(t);
  }
}

template <F32 (*from)(U16), U16 (*to)(F32)>
void finish(const HalfTile& t) {
  if (!t.residual) return finish_with<from, to, Residual::kNone>(t);
  t.residual_is_half ? finish_with<from, to, Residual::kHalf>(t) : finish_with<from, to, Residual::kFloat>(t);
}

}  // namespace

void fill_convert(Micro& micro) {
  micro.load_f16 = load_all<from_f16>;
  micro.load_bf16 = load_all<from_bf16>;
  micro.store_f16 = store_all<to_f16>;
  micro.store_bf16 = store_all<to_bf16>;
  micro.finish_f16 = finish<from_f16, to_f16>;
  micro.finish_bf16 = finish<from_bf16, to_bf16>;
}

}  // namespace npu::cpu::NPU_ISA
