"""The check that stands in for Apple's compiler: it passes our kernels, and catches what MSL forbids."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import check_kernels
import pytest

ROOT = Path(__file__).resolve().parents[2]
KERNELS = sorted((ROOT / "metal").glob("*.metal"))

pytestmark = pytest.mark.skipif(
    not any(shutil.which(f"clang++-{version}") for version in (19, 20, 21)), reason="no clang++-19 or newer"
)


@pytest.mark.parametrize("path", KERNELS, ids=[p.stem for p in KERNELS])
def test_kernels_keep_the_rules(path: Path) -> None:
    assert check_kernels.check_sources([(path.name, path.read_text())]) == []


# Neither side of a launch writes numbers that metal/constants.h has names for.
NUMBERS = {
    "metal": r"\[\[(?:buffer|function_constant)\(\d",
    "cpp/gpu/ops": r"(?:\.|->)(?:constant|input|output|update|scratch|packed|status|nothing)\(\d",
}


@pytest.mark.parametrize("folder", NUMBERS)
def test_numbers_have_names(folder: str) -> None:
    files = sorted((ROOT / folder).iterdir())
    assert [path.name for path in files if re.search(NUMBERS[folder], path.read_text())] == []
    assert re.search(NUMBERS[folder], "[[buffer(3)]] launch.constant(4, true)")


HEAD = "#include <metal_stdlib>\nusing namespace metal;\n"
KERNEL = (
    "kernel void k(device float* x [[buffer(0)]], constant int& n [[buffer(1)]], uint i [[thread_position_in_grid]])"
)
WRONG = {
    "device memory as threadgroup memory": (
        "void f(threadgroup float* p);" + KERNEL + "{ f(x); }",
        "no matching function",
    ),
    "a pointer that drops its address space": (KERNEL + "{ thread float* p = x; *p = 1.0f; }", "cannot initialize"),
    "a pointer that says nothing": (
        "inline float f(float* p) { return *p; }" + KERNEL + "{ float a = 1.0f; x[0] = f(&a); }",
        "which memory",
    ),
    "a write to constant memory": (KERNEL + "{ n = 1; }", "const"),
    "double": (KERNEL + "{ x[i] = float(double(n)); }", "no double"),
    "the standard library": (KERNEL + "{ x[i] = std::max(x[i], 1.0f); }", "standard library"),
    "recursion": (
        "inline int f(int a) { return a > 1 ? a * f(a - 1) : 1; }" + KERNEL + "{ x[i] = float(f(n)); }",
        "recursion",
    ),
    "mutual recursion": (
        "int g(int a); inline int f(int a) { return g(a); } "
        "int g(int a) { return a > 1 ? f(a - 1) : 1; }" + KERNEL + "{ x[i] = float(f(n)); }",
        "recursion",
    ),
    "an exception": (KERNEL + "{ if (n > 1) throw 1; }", "a keyword MSL lacks"),
    "a virtual function": (
        "struct A { virtual float f() { return 1.0f; } };" + KERNEL + "{ x[i] = 1.0f; }",
        "a keyword MSL lacks",
    ),
    "a lambda": (KERNEL + "{ auto f = [](float a) { return a; }; x[i] = f(1.0f); }", "a lambda"),
    "mathematics of bfloat": (KERNEL + "{ x[i] = float(exp(bfloat(1.0f))); }", "ambiguous"),
    "simd_sum of long": (KERNEL + "{ x[i] = float(simd_sum(long(n))); }", "ambiguous"),
    "an atomic of 64 bits": (
        KERNEL + "{ device atomic<long>* a = (device atomic<long>*)x; "
        "atomic_fetch_add_explicit(a, 1l, memory_order_relaxed); }",
        "no such atomic",
    ),
    "a name that Metal lacks": (KERNEL + "{ x[i] = erf(x[i]); }", "undeclared"),
    "a keyword as a name": (
        "struct A { int kernel; };" + KERNEL + "{ A a; a.kernel = 1; x[i] = 1.0f; }",
        "unqualified-id",
    ),
    "a buffer without a number": ("kernel void k(device int* x [[buffer(kNowhere)]]) { x[0] = 1; }", "kNowhere"),
    "more buffers than there are": (
        "kernel void k(device int* x [[buffer(15 + 16)]]) { x[0] = 1; }",
        "in an attribute",
    ),
    "a function constant without a number": ("constant bool a [[function_constant(kNone)]];", "kNone"),
    "a header of C++": ("#include <vector>\n" + KERNEL + "{ x[i] = 1.0f; }", "not Metal's"),
    "a kernel that returns": ("kernel int k(device int* x [[buffer(0)]]) { return x[0]; }", "returns something"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_metal_forbids_is_found(name: str) -> None:
    source, fault = WRONG[name]
    found = "\n".join(check_kernels.check_sources([("wrong.metal", HEAD + source)]))
    assert fault in found, found


def test_what_metal_allows_is_not() -> None:
    source = """
enum { kFirst, kX = kFirst, kY };
enum { kFcFlag = kY };
constant bool flag [[function_constant(kFcFlag)]];
struct Pair { float a; float b; };
inline Pair swapped(Pair p) { return {p.b, p.a}; }
template <typename T> inline T first(const threadgroup T* room) { return room[0]; }
inline void add_to(thread float& sum, float x) { sum += x; }
template <typename T>
[[kernel]] void f(const device T* x [[buffer(kX)]], device T* y [[buffer(kX + 1), function_constant(flag)]],
                  uint i [[thread_position_in_grid]]) {
  threadgroup float room[32];
  room[i % 32] = float(x[i]);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float sum = 0.0f;
  add_to(sum, first(room));
  const float4 four = float4(sum, float2(1.0f), swapped({1.0f, 2.0f}).a);
  y[i] = T(simd_sum(four.x) + precise::exp(four.w));
}
template [[host_name("f_bfloat")]] [[kernel]] decltype(f<bfloat>) f<bfloat>;
"""
    assert check_kernels.check_sources([("right.metal", HEAD + source)]) == []
