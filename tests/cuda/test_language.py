"""MSL's library for CUDA, also what no kernel of ours uses; and what is said of kernels that do not compile."""

from __future__ import annotations

from pathlib import Path

import pytest

from .compiling import compile_kernels

LANGUAGE = """
#include <metal_stdlib>
using namespace metal;

static_assert(numeric_limits<char>::digits == 7 && numeric_limits<ulong>::digits == 64, "digits");
static_assert(numeric_limits<int>::min() == -2147483647 - 1 && numeric_limits<int>::max() == 2147483647, "bounds");
static_assert(numeric_limits<long>::max() == 9223372036854775807l, "bounds");
static_assert(numeric_limits<uchar>::max() == 255 && numeric_limits<uchar>::min() == 0, "bounds");
static_assert(sizeof(half3) == 8 && sizeof(float3) == 16 && sizeof(packed_half3) == 6 && sizeof(bool4) == 4, "sizes");
static_assert(alignof(float4) == 16 && alignof(half2) == 4 && alignof(packed_float4) == 4, "alignments");

constant int pace [[function_constant(0)]];
constant int twice = is_function_constant_defined(pace) ? 2 * pace : 3;

template <typename A, typename B> struct same { static constant constexpr bool value = false; };
template <typename A> struct same<A, A> { static constant constexpr bool value = true; };

// Overloads MSL's own function of this name.
inline float sign(int x) { return x > 0 ? 2.0f : -2.0f; }

kernel void numbers(device float* y [[buffer(0)]], device half* h [[buffer(1)]], device bfloat* b [[buffer(2)]],
                    uint i [[thread_position_in_grid]]) {
  static_assert(same<decltype(h[0] + h[1]), half>::value && same<decltype(-b[0]), bfloat>::value, "of one type");
  static_assert(same<decltype(h[0] * 2), half>::value && same<decltype(h[0] * 2.0f), float>::value, "mixed");
  static_assert(same<decltype(b[0] * y[0]), float>::value && same<decltype(exp(h[0])), half>::value, "wider");
  static_assert(same<decltype(1.0h), half>::value && same<decltype(1.0bf), bfloat>::value, "literals");
  static_assert(same<decltype(1.0), float>::value && same<decltype(1e3 + 1), float>::value, "literals");
  h[i] += h[i + 1] / 3.0h - half(i);
  b[i] = bfloat(float(b[i]) + 1.5f) * b[i + 1];
  y[i] = precise::exp(y[i]) + fma(y[i], 2.0f, -1.0f) + clamp(y[i], 0.0f, 1.0f) + float(mulhi(i, 7u)) + float(twice);
  y[i] += isnan(h[i]) || isinf(y[i]) ? 1.0f : float(max(h[i], 1.0h)) + float(numeric_limits<half>::max());
  y[i] += float(popcount(i) + clz(i) + ctz(i)) + float(abs(int(i)) + max(int(i), 3)) + sign(y[i]) + sign(int(i));
}

kernel void vectors(device float4* y [[buffer(0)]], device packed_float3* p [[buffer(1)]],
                    const device char4* c [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  float4 v = y[i];
  v = v.wzyx + v.yxwz * 2 + float4(v.xy, v.zw) - float4(v.xyz, 1.0f) + float4(v.x, v.yz, v.w);
  v.x = v.yy.x + v.zyx.y;
  const bool4 less = v < 0.0f;
  v = select(v, -v, less) + (any(less) ? 1.0f : 0.0f) + (all(v == v) ? 1.0f : 0.0f);
  p[i] = packed_float3(float3(v.xyz) + float3(p[i]));
  y[i] = max(abs(v), float4(c[i])) + float4(as_type<float>(as_type<int>(v.x))) + dot(v, v);
  v[i % 4] += float((int4(v) << 2 & 7).x);
  y[i + 1] = v;
}

kernel void groups(device uint* y [[buffer(0)]], device atomic_int* counts [[buffer(1)]],
                   threadgroup half* room [[threadgroup(0)]], uint3 at [[thread_position_in_grid]],
                   ushort2 local [[thread_position_in_threadgroup]], uint2 group [[threadgroup_position_in_grid]],
                   ushort lane [[thread_index_in_simdgroup]], uint simd [[simdgroup_index_in_threadgroup]],
                   uint3 size [[threads_per_threadgroup]], uint2 groups [[threadgroups_per_grid]],
                   uint3 all [[threads_per_grid]], uint simds [[simdgroups_per_threadgroup]],
                   uint index [[thread_index_in_threadgroup]], uint quad [[thread_index_in_quadgroup]]) {
  threadgroup float4 sums[32];
  room[lane] = half(simd_sum(float(lane)) + float(simd_shuffle_xor(half(lane), 1)));
  sums[lane] = simd_shuffle(float4(float(lane)), ushort(3));
  threadgroup_barrier(mem_flags::mem_threadgroup | mem_flags::mem_device);
  simdgroup_barrier(mem_flags::mem_threadgroup);
  int expected = atomic_load_explicit(counts, memory_order_relaxed);
  atomic_compare_exchange_weak_explicit(counts, &expected, 1, memory_order_relaxed, memory_order_relaxed);
  atomic_fetch_add_explicit(counts, 1, memory_order_relaxed);
  atomic_fetch_max_explicit(counts, int(simd_prefix_exclusive_sum(lane)), memory_order_relaxed);
  const long wide = simd_max(long(at.x)) + simd_min(int(at.y)) + simd_or(at.z) + long(simd_product(1.0f));
  const bool any = simd_any(local.x > 1) && simd_all(local.y > 0);
  y[index] = uint(float(room[lane]) + sums[simd].w) + group.x + size.y + groups.y + all.z + simds + quad;
  y[index] += uint(wide) + any;
}

namespace outer {
namespace inner {
kernel void nested(device float* y [[buffer(0)]], uint i [[thread_index_in_threadgroup]]) {
  threadgroup alignas(16) float a[32];
  alignas(16) threadgroup float b[32], c[2];
  a[i] = y[i], b[i] = y[i + 1], c[i % 2] = 0;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[i] = a[31 - i] + b[i] + c[0];
}
template <typename T> [[kernel]] void of_type(device T* y [[buffer(0)]]) { y[0] = T(1); }
}
template [[host_name("of_int")]] [[kernel]] void inner::of_type<int>(device int* y [[buffer(0)]]);
}
[[host_name("renamed")]] kernel void plain(device float* y [[buffer(0)]]) { y[0] = 1; }

template <typename T>
[[kernel]] void matrices(device float* y [[buffer(0)]], const device T* x [[buffer(1)]]) {
  simdgroup_matrix<T, 8, 8> a, b;
  simdgroup_float8x8 sum = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
  simdgroup_load(a, x, 8);
  simdgroup_load(b, x + 64, 8, ulong2(0), true);
  simdgroup_multiply_accumulate(sum, a, b, sum);
  sum.thread_elements()[0] += 1.0f;
  simdgroup_store(sum, y, 8);
}
template [[host_name("matrices_float")]] [[kernel]] decltype(matrices<float>) matrices<float>;
template [[host_name("matrices_half")]] [[kernel]] decltype(matrices<half>) matrices<half>;
template [[host_name("matrices_bfloat")]] [[kernel]] decltype(matrices<bfloat>) matrices<bfloat>;
"""


def source(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "source.metal"
    path.write_text(text)
    return path


def test_the_library_for_cuda(tmp_path: Path) -> None:
    kernels = compile_kernels(source(tmp_path, LANGUAGE), architectures=("sm_80", "sm_90", "sm_100"))
    assert len(kernels) == 3 * 9


KERNEL = """#include <metal_stdlib>
using namespace metal;
kernel void f(device float* y [[buffer(0)]], device bfloat* b [[buffer(1)]]) {
"""


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("y[0] = nothing;", 'identifier "nothing" is undefined'),
        ("b[0] = y[0];", 'no operator "=" matches'),  # nothing becomes a bfloat by itself
        ("y[0] = exp(b[0]);", "deleted function"),
        ("float4 v = float4(1, 2, 3);", "parts have as many elements"),
        ("half h = 1.0h + b[0];", "deleted"),
    ],
)
def test_errors_of_the_compiler_name_the_line(statement: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError) as failure:
        compile_kernels(source(tmp_path, KERNEL + f"  {statement}\n}}\n"))
    assert message in str(failure.value)
    assert " f 256 failed " in str(failure.value)
    if "parts" not in message:
        assert "generated(4)" in str(failure.value)


def test_a_compiler_that_is_newer_than_the_driver_is_passed_over() -> None:
    with pytest.raises(AssertionError, match=r"libnvrtc.so.13: version 13") as failure:
        compile_kernels("--library", "copy", "--newest", "11")
    assert "expected NVRTC 12 to 11" in str(failure.value)
