// simdgroup_matrix: loads, stores, products, and which lane holds what.
#include <cmath>

#include "kernels.h"

using namespace npu::test;

namespace {

const char* const kSource = R"(
template <typename T>
kernel void multiply(device float* c [[buffer(0)]], device const T* a [[buffer(1)]], device const T* b [[buffer(2)]],
                     uint2 group [[threadgroup_position_in_grid]]) {
  simdgroup_matrix<float, 8, 8> sum = make_filled_simdgroup_matrix<float, 8, 8>(0.5f);
  for (uint k = 0; k < 24; k += 8) {
    simdgroup_matrix<T, 8, 8> left, right;
    simdgroup_load(left, a, 24, ulong2(k, group.y * 8));
    simdgroup_load(right, b + k * 16 + group.x * 8, 16);
    simdgroup_multiply_accumulate(sum, left, right, sum);
  }
  simdgroup_store(sum, c, 16, ulong2(group.x * 8, group.y * 8));
}
#define INSTANCE(T) template [[host_name("multiply_" #T)]] kernel decltype(multiply<T>) multiply<T>;
INSTANCE(float)
INSTANCE(half)
INSTANCE(bfloat)

kernel void transposed(device float* y [[buffer(0)]], device const float* x [[buffer(1)]]) {
  threadgroup float tile[64];
  simdgroup_float8x8 m;
  simdgroup_load(m, x, 8, ulong2(0, 0), true);
  simdgroup_store(m, tile, 8);
  simdgroup_barrier(mem_flags::mem_threadgroup);
  simdgroup_float8x8 again;
  simdgroup_load(again, tile, 8);
  simdgroup_store(again, y, 8);
}
kernel void layout(device float* y [[buffer(0)]], device const float* x [[buffer(1)]],
                   uint lane [[thread_index_in_simdgroup]]) {
  simdgroup_float8x8 m;
  simdgroup_load(m, x, 8);
  y[lane * 2] = m.thread_elements()[0];
  y[lane * 2 + 1] = m.thread_elements()[1];
}
kernel void diagonal(device float* y [[buffer(0)]], device const float* x [[buffer(1)]]) {
  simdgroup_float8x8 m, twice = simdgroup_float8x8(2.0f), product;
  simdgroup_load(m, x, 8);
  simdgroup_multiply(product, twice, m);
  simdgroup_store(product, y, 8);
}
)";

Kernels& kernels() {
  static Kernels all(kSource);
  return all;
}

std::vector<float> count_up() {
  std::vector<float> x(64);
  for (std::size_t i = 0; i < 64; ++i) x[i] = static_cast<float>(i);
  return x;
}

template <class T, class Make>
void check_product(const std::string& name, Make make) {
  std::vector<T> a(16 * 24), b(24 * 16);
  std::vector<float> fa(a.size()), fb(b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    fa[i] = static_cast<float>(i % 7) - 3;
    fb[i] = static_cast<float>(i % 5) / 2;
    a[i] = make(fa[i]);
    b[i] = make(fb[i]);
  }
  Shape shape{{2 * 32, 2, 1}, {32, 1, 1}, {}};
  expect<float>(
      kernels(), name, shape, 256,
      [&](std::size_t i) {
        float sum = 0.5f;
        for (std::size_t k = 0; k < 24; ++k) sum += fa[i / 16 * 24 + k] * fb[k * 16 + i % 16];
        return sum;
      },
      a, b);
}

}  // namespace

TEST(softmetal_matrix, products_of_tiles) {
  check_product<float>("multiply_float", [](float x) { return x; });
  check_product<_Float16>("multiply_half", [](float x) { return static_cast<_Float16>(x); });
  check_product<std::uint16_t>("multiply_bfloat", [](float x) {
    std::uint32_t bits;
    std::memcpy(&bits, &x, 4);
    return static_cast<std::uint16_t>(bits >> 16);  // exact for these
  });
}

TEST(softmetal_matrix, loads_transposed_and_stores_to_threadgroup_memory) {
  expect<float>(
      kernels(), "transposed", threads(32), 64,
      [](std::size_t i) { return static_cast<float>(i % 8 * 8 + i / 8); }, count_up());
}

TEST(softmetal_matrix, lanes_hold_what_they_hold_on_apples_gpus) {
  expect<float>(
      kernels(), "layout", threads(32), 64,
      [](std::size_t i) {
        const std::size_t lane = i / 2, quad = lane / 4;
        const std::size_t row = (quad & 4) + lane / 2 % 4, column = (quad & 2) * 2 + lane % 2 * 2 + i % 2;
        return static_cast<float>(row * 8 + column);
      },
      count_up());
}

TEST(softmetal_matrix, a_number_makes_a_diagonal) {
  expect<float>(
      kernels(), "diagonal", threads(32), 64, [](std::size_t i) { return 2 * static_cast<float>(i); },
      count_up());
}

TEST(softmetal_matrix, products_need_a_whole_simdgroup) {
  std::vector<float> y(64), x = count_up();
  for (Mode mode : {Mode::fast, Mode::checked})
    CHECK_CONTAINS(kernels().run(mode, "diagonal", threads(31), y, x), "needs all 32 lanes");
}
