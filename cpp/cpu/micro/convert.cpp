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

}  // namespace

void fill_convert(Micro& micro) {
  micro.load_f16 = load_all<from_f16>;
  micro.load_bf16 = load_all<from_bf16>;
  micro.store_f16 = store_all<to_f16>;
  micro.store_bf16 = store_all<to_bf16>;
}

}  // namespace npu::cpu::NPU_ISA
