// Operations of simdgroups and quadgroups against plain loops, also where the last simdgroup is not full.
#include <algorithm>
#include <cstdint>

#include "kernels.h"

using namespace npu::test;

namespace {

// Each kernel writes one operation's result; `v` is a value of the thread's own.
const char* const kSource = R"(
#define KERNEL(name, T, expression)                                                              \
  kernel void name(device T* y [[buffer(0)]], uint i [[thread_index_in_threadgroup]],            \
                   uint lane [[thread_index_in_simdgroup]]) {                                    \
    T v = T((i * 7) % 13 + 1);                                                                   \
    y[i] = T(expression);                                                                        \
  }
#define ALL(name, expression)                  \
  KERNEL(name##_float, float, expression)      \
  KERNEL(name##_half, half, expression)        \
  KERNEL(name##_int, int, expression)          \
  KERNEL(name##_ushort, ushort, expression)
ALL(sum, simd_sum(v))
ALL(max, simd_max(v))
ALL(min, simd_min(v))
ALL(inclusive, simd_prefix_inclusive_sum(v))
ALL(exclusive, simd_prefix_exclusive_sum(v))
ALL(broadcast, simd_broadcast(v, 5))
ALL(first, simd_broadcast_first(v))
ALL(down, simd_shuffle_down(v, 3))
ALL(up, simd_shuffle_up(v, 3))
ALL(exchange, simd_shuffle_xor(v, 4))
ALL(shuffle, simd_shuffle(v, 31 - lane))
ALL(rotate, simd_shuffle_rotate_down(v, 5))
ALL(fill_up, simd_shuffle_and_fill_up(v, decltype(v)(100 + lane), 3))
ALL(fill_down, simd_shuffle_and_fill_down(v, decltype(v)(100 + lane), 3, 8))
ALL(quad_sum, quad_sum(v))
ALL(quad_max, quad_max(v))
ALL(quad_broadcast, quad_broadcast(v, 2))
ALL(quad_exchange, quad_shuffle_xor(v, 3))
KERNEL(product, float, simd_product(1 + float(i % 3) / 2))
KERNEL(prefix_product, float, simd_prefix_inclusive_product(float(1 + i % 2)))
KERNEL(prefix_product_before, float, simd_prefix_exclusive_product(float(1 + i % 2)))
KERNEL(all_bits, uint, simd_and(v | 8))
KERNEL(any_bits, uint, simd_or(v))
KERNEL(odd_bits, uint, simd_xor(v))
KERNEL(ballot, uint, uint(ulong(simd_ballot(i % 3 == 0))))
KERNEL(some, uint, simd_any(i == 3))
KERNEL(none, uint, simd_any(i > 1000))
KERNEL(every, uint, simd_all(i < 1000))
KERNEL(is_first, uint, simd_is_first())
KERNEL(active, uint, uint(ulong(simd_active_threads_mask())))
KERNEL(early, float, (lane >= 20 ? 0 : 1))

kernel void vectors(device float4* y [[buffer(0)]], uint i [[thread_index_in_threadgroup]]) {
  y[i] = simd_sum(float4(i, 1, 2, 3)) + simd_max(float4(0, i, 0, 0));
}
kernel void after_return(device float* y [[buffer(0)]], uint i [[thread_index_in_threadgroup]]) {
  if (i >= 20) return;
  y[i] = simd_sum(1.0f);
}
)";

int value(std::size_t i) { return static_cast<int>((i * 7) % 13 + 1); }

// The lanes of the simdgroup of thread i, of n threads.
struct Lanes {
  std::size_t begin, end, lane;
  Lanes(std::size_t i, std::size_t n) : begin(i / 32 * 32), end(std::min(begin + 32, n)), lane(i % 32) {}
};

int total(std::size_t begin, std::size_t end) {
  int sum = 0;
  for (std::size_t i = begin; i < end; ++i) sum += value(i);
  return sum;
}
int largest(std::size_t begin, std::size_t end) {
  int most = 0;
  for (std::size_t i = begin; i < end; ++i) most = std::max(most, value(i));
  return most;
}
int smallest(std::size_t begin, std::size_t end) {
  int least = 100;
  for (std::size_t i = begin; i < end; ++i) least = std::min(least, value(i));
  return least;
}

Kernels& kernels() {
  static Kernels all(kSource);
  return all;
}

template <class T>
void expect_in(const std::string& name, unsigned n, const std::function<int(std::size_t)>& expected) {
  expect<T>(kernels(), name, threads(n), n, [&](std::size_t i) { return static_cast<T>(expected(i)); });
}

// In all four types.
void expect_all(const std::string& name, unsigned n, const std::function<int(std::size_t)>& expected) {
  expect_in<float>(name + "_float", n, expected);
  expect_in<_Float16>(name + "_half", n, expected);
  expect_in<int>(name + "_int", n, expected);
  expect_in<std::uint16_t>(name + "_ushort", n, expected);
}

}  // namespace

TEST(softmetal_simd, reductions_also_of_partial_simdgroups) {
  for (unsigned n : {32u, 64u, 45u, 1u}) {
    expect_all("sum", n, [=](std::size_t i) { return total(Lanes(i, n).begin, Lanes(i, n).end); });
    expect_all("max", n, [=](std::size_t i) { return largest(Lanes(i, n).begin, Lanes(i, n).end); });
    expect_all("min", n, [=](std::size_t i) { return smallest(Lanes(i, n).begin, Lanes(i, n).end); });
    expect_all("inclusive", n, [=](std::size_t i) { return total(Lanes(i, n).begin, i + 1); });
    expect_all("exclusive", n, [=](std::size_t i) { return total(Lanes(i, n).begin, i); });
    expect_all("first", n, [=](std::size_t i) { return value(Lanes(i, n).begin); });
  }
}

TEST(softmetal_simd, products_and_bits) {
  expect<float>(kernels(), "product", threads(32), 32, [](std::size_t) {
    float product = 1;
    for (int i = 0; i < 32; ++i) product *= 1 + static_cast<float>(i % 3) / 2;
    return product;
  });
  expect<float>(kernels(), "prefix_product", threads(32), 32,
                [](std::size_t i) { return static_cast<float>(1 << ((i + 1) / 2)); });
  expect<float>(kernels(), "prefix_product_before", threads(32), 32,
                [](std::size_t i) { return static_cast<float>(1 << (i / 2)); });
  expect_in<std::uint32_t>("all_bits", 40, [](std::size_t i) {
    int bits = ~0;
    for (std::size_t k = Lanes(i, 40).begin; k < Lanes(i, 40).end; ++k) bits &= value(k) | 8;
    return bits;
  });
  expect_in<std::uint32_t>("any_bits", 40, [](std::size_t i) {
    int bits = 0;
    for (std::size_t k = Lanes(i, 40).begin; k < Lanes(i, 40).end; ++k) bits |= value(k);
    return bits;
  });
  expect_in<std::uint32_t>("odd_bits", 40, [](std::size_t i) {
    int bits = 0;
    for (std::size_t k = Lanes(i, 40).begin; k < Lanes(i, 40).end; ++k) bits ^= value(k);
    return bits;
  });
}

TEST(softmetal_simd, shuffles) {
  expect_all("broadcast", 64, [](std::size_t i) { return value(i / 32 * 32 + 5); });
  expect_all("down", 64, [](std::size_t i) { return value(i % 32 + 3 < 32 ? i + 3 : i); });
  expect_all("up", 64, [](std::size_t i) { return value(i % 32 >= 3 ? i - 3 : i); });
  expect_all("exchange", 64, [](std::size_t i) { return value(i ^ 4); });
  expect_all("shuffle", 64, [](std::size_t i) { return value(i / 32 * 32 + 31 - i % 32); });
  expect_all("rotate", 64, [](std::size_t i) { return value(i / 32 * 32 + (i + 5) % 32); });
  expect_all("fill_up", 32,
             [](std::size_t i) { return i >= 3 ? value(i - 3) : static_cast<int>(100 + 32 + i - 3); });
  expect_all("fill_down", 32,
             [](std::size_t i) { return i % 8 + 3 < 8 ? value(i + 3) : static_cast<int>(100 + i + 3 - 8); });
}

TEST(softmetal_simd, votes) {
  expect_in<std::uint32_t>("ballot", 40, [](std::size_t i) {
    std::uint32_t bits = 0;
    for (std::size_t k = Lanes(i, 40).begin; k < Lanes(i, 40).end; ++k) bits |= (k % 3 == 0) << (k % 32);
    return static_cast<int>(bits);
  });
  expect_in<std::uint32_t>("some", 40, [](std::size_t i) { return i < 32; });
  expect_in<std::uint32_t>("none", 40, [](std::size_t) { return 0; });
  expect_in<std::uint32_t>("every", 40, [](std::size_t) { return 1; });
  expect_in<std::uint32_t>("is_first", 40, [](std::size_t i) { return i % 32 == 0; });
  expect_in<std::uint32_t>("active", 40, [](std::size_t i) { return i < 32 ? -1 : 0xff; });
}

TEST(softmetal_simd, quadgroups) {
  expect_all("quad_sum", 44, [](std::size_t i) { return total(i / 4 * 4, i / 4 * 4 + 4); });
  expect_all("quad_max", 44, [](std::size_t i) { return largest(i / 4 * 4, i / 4 * 4 + 4); });
  expect_all("quad_broadcast", 44, [](std::size_t i) { return value(i / 4 * 4 + 2); });
  expect_all("quad_exchange", 44, [](std::size_t i) { return value(i ^ 3); });
}

TEST(softmetal_simd, vectors_of_values) {
  expect<float>(kernels(), "vectors", threads(32), 128, [](std::size_t i) {
    const float wanted[] = {496, 32 + 31, 64, 96};
    return wanted[i % 4];
  });
}

TEST(softmetal_simd, lanes_that_have_ended_do_not_count) {
  expect<float>(kernels(), "after_return", threads(32), 32,
                [](std::size_t i) { return i < 20 ? 20.0f : 0.0f; });
}
