// Kernels that are wrong on purpose: each must be caught, with a message that says where.
#include "check/hazards.h"
#include "kernels.h"

using namespace npu::test;

namespace {

const char* const kSource =
    R"(kernel void read_past(device const float* x [[buffer(0)]], device float* y [[buffer(1)]], uint i [[thread_position_in_grid]]) {
  y[i] = x[i + 1];
}
kernel void write_past(device float* y [[buffer(0)]], uint i [[thread_position_in_grid]]) { y[i + 1] = 1; }
kernel void write_before(device float* y [[buffer(0)]], uint i [[thread_position_in_grid]]) { y[int(i) - 1] = 1; }
kernel void read_wide(device const float* x [[buffer(0)]], device float4* y [[buffer(1)]]) {
  y[0] = ((device const float4*)(x + 62))[0];
}
kernel void write_const(device const float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  ((device float*)x)[i] = 1;
}
kernel void through_null(device float* y [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  device float* nothing = nullptr;
  if (i == 7) nothing[i] = y[i];
}
kernel void race_in_group(device float* y [[buffer(0)]], uint i [[thread_position_in_grid]]) { y[i / 2] = 1; }
kernel void race_of_groups(device float* y [[buffer(0)]], uint i [[thread_position_in_threadgroup]],
                           uint g [[threadgroup_position_in_grid]]) {
  if (i == 0) y[0] = g;
}
kernel void read_races(device float* y [[buffer(0)]], uint i [[thread_position_in_threadgroup]]) {
  float next = y[(i + 1) % 64];
  y[i] = next;
}
kernel void race_on_threadgroup_memory(device float* y [[buffer(0)]], uint i [[thread_position_in_threadgroup]]) {
  threadgroup float s[64];
  s[63 - i] = i;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float v = s[i];
  s[63 - i] = v;
  y[i] = v;
}
kernel void barrier_of_the_wrong_memory(device float* y [[buffer(0)]], uint i [[thread_position_in_threadgroup]]) {
  threadgroup float s[64];
  s[i] = i;
  threadgroup_barrier(mem_flags::mem_device);
  y[i] = s[63 - i];
}
kernel void barrier_of_a_simdgroup(device float* y [[buffer(0)]], uint i [[thread_position_in_threadgroup]]) {
  threadgroup float s[64];
  s[i] = i;
  simdgroup_barrier(mem_flags::mem_threadgroup);
  y[i] = s[63 - i];
}
kernel void barrier_within_a_simdgroup(device float* y [[buffer(0)]], uint i [[thread_position_in_threadgroup]]) {
  threadgroup float s[64];
  s[i] = i;
  simdgroup_barrier(mem_flags::mem_threadgroup);
  y[i] = s[i ^ 31];
}
kernel void unwritten_threadgroup_memory(device float* y [[buffer(0)]], uint i [[thread_position_in_threadgroup]]) {
  threadgroup float s[64];
  if (i < 63) s[i] = i;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[i] = s[63 - i];
}
kernel void unwritten_buffer(device float* x [[buffer(0)]], device float* y [[buffer(1)]],
                             uint i [[thread_position_in_grid]]) {
  if (i < 63) x[i] = 1;
  y[i] = x[i];
}
kernel void past_a_variable(device float* y [[buffer(0)]], uint i [[thread_position_in_threadgroup]]) {
  threadgroup float s[63];
  threadgroup float t[64];
  t[i] = 1;
  s[i] = t[i];
  y[i] = s[i];
}
kernel void past_an_argument(device float* y [[buffer(0)]], threadgroup float* s [[threadgroup(0)]],
                             uint i [[thread_position_in_threadgroup]]) {
  s[i] = 1;
  y[i] = s[i];
}
kernel void two_operations(device float* y [[buffer(0)]], uint i [[thread_position_in_threadgroup]]) {
  if (i < 16)
    y[i] = simd_sum(1.0f);
  else
    y[i] = simd_sum(2.0f);
}
kernel void half_an_operation(device float* y [[buffer(0)]], uint i [[thread_position_in_threadgroup]]) {
  if (i < 16) y[i] = simd_sum(1.0f);
  threadgroup_barrier(mem_flags::mem_none);
}
kernel void half_a_barrier(device float* y [[buffer(0)]], uint i [[thread_position_in_threadgroup]]) {
  if (i >= 40) return;
  threadgroup_barrier(mem_flags::mem_none);
  y[i] = i;
}
kernel void two_barriers(device float* y [[buffer(0)]], uint i [[thread_position_in_threadgroup]]) {
  if (i < 32)
    threadgroup_barrier(mem_flags::mem_none);
  else
    threadgroup_barrier(mem_flags::mem_none);
  y[i] = i;
}
kernel void from_a_missing_lane(device float* y [[buffer(0)]], uint i [[thread_position_in_threadgroup]]) {
  y[i] = simd_shuffle_down(float(i), 8);
}
kernel void from_no_lane(device float* y [[buffer(0)]], uint i [[thread_position_in_threadgroup]]) {
  y[i] = simd_broadcast(float(i), 32);
}
kernel void misaligned(device float* y [[buffer(0)]], device const float* x [[buffer(1)]],
                       uint i [[thread_position_in_threadgroup]]) {
  y[i] = ((device const float4*)(x + 2))[0].x;
}
kernel void counts(device atomic_uint* n [[buffer(0)]]) { atomic_fetch_add_explicit(n, 1, memory_order_relaxed); }
kernel void counts_and_writes(device atomic_uint* n [[buffer(0)]], uint i [[thread_position_in_threadgroup]]) {
  if (i < 3)
    atomic_fetch_add_explicit(n, 1, memory_order_relaxed);
  else
    *((device uint*)n) = 2;
}
kernel void too_much_memory(device float* y [[buffer(0)]], uint i [[thread_position_in_threadgroup]]) {
  threadgroup float s[8196];
  s[i] = 1;
  y[i] = s[i];
}
kernel void fill(device float* y [[buffer(0)]], uint i [[thread_position_in_grid]]) { y[i] = 1; }
)";

Kernels& kernels() {
  static Kernels all(kSource);
  return all;
}

std::string fault_of(const std::string& name, const Shape& shape = threads(64), Mode mode = Mode::checked) {
  std::vector<float> first(64, 1), second(64, 1);
  return kernels().run(mode, name, shape, first, second);
}

}  // namespace

TEST(softmetal_checks, bounds) {
  CHECK_CONTAINS(fault_of("read_past"),
                 "out of bounds: kernel read_past, threadgroup (0, 0, 0), thread (63, 0, 0)");
  CHECK_CONTAINS(fault_of("read_past"), "reads 4 bytes at 256 of buffer 0 (x), which has 256 bytes, at");
  CHECK_CONTAINS(fault_of("read_past"), "test:2");
  CHECK_CONTAINS(fault_of("write_past"), "writes 4 bytes at 256 of buffer 0 (y)");
  CHECK_CONTAINS(fault_of("write_before"), "writes 4 bytes at -4 of buffer 0 (y)");
  CHECK_CONTAINS(fault_of("read_wide", threads(1)), "reads 16 bytes at 248 of buffer 0 (x)");
  CHECK_CONTAINS(fault_of("write_const"), "read only: kernel write_const");
  CHECK_CONTAINS(fault_of("through_null"), "through a null pointer");
  CHECK_CONTAINS(fault_of("past_a_variable"), "at 252 of threadgroup variable s, which has 252 bytes");
  Shape shape = threads(64);
  shape.threadgroup_bytes = {128};
  CHECK_CONTAINS(fault_of("past_an_argument", shape),
                 "at 128 of threadgroup variable s, which has 128 bytes");
}

TEST(softmetal_checks, alignment) {
  CHECK_CONTAINS(fault_of("misaligned", threads(1)), "misaligned: kernel misaligned");
  CHECK_CONTAINS(
      fault_of("misaligned", threads(1)),
      "a pointer whose type wants 16 bytes of alignment points to byte 8 of buffer 1 (x), at test:");
}

TEST(softmetal_checks, races) {
  CHECK_CONTAINS(fault_of("race_in_group"), "a race, since thread (0, 0, 0) wrote byte 0");
  CHECK_CONTAINS(fault_of("race_of_groups", groups(3, 16)), "a race, since another threadgroup wrote byte 0");
  CHECK_CONTAINS(fault_of("read_races"), "a race, since thread (0, 0, 0) read byte 4");
  CHECK_CONTAINS(fault_of("race_on_threadgroup_memory"), "race: kernel race_on_threadgroup_memory");
  CHECK_CONTAINS(fault_of("barrier_of_the_wrong_memory"), "no barrier with mem_threadgroup lies between");
  CHECK_CONTAINS(fault_of("barrier_of_a_simdgroup"), "uninitialised");
  CHECK_EQ(fault_of("barrier_within_a_simdgroup"), "");
}

TEST(softmetal_checks, atomics_race_with_plain_accesses_only) {
  std::vector<unsigned> n(1, 0);
  CHECK_EQ(kernels().run(Mode::checked, "counts", groups(3, 50), n), "");
  CHECK_EQ(n[0], 150u);
  CHECK_EQ(kernels().run(Mode::fast, "counts", groups(300, 50), n), "");
  CHECK_EQ(n[0], 15150u);
  CHECK_CONTAINS(kernels().run(Mode::checked, "counts_and_writes", threads(8), n), "race");
}

TEST(softmetal_checks, unwritten_memory) {
  CHECK_CONTAINS(
      fault_of("unwritten_threadgroup_memory"),
      "reads bytes 252 to 256 of threadgroup variable s, which no thread of the threadgroup has written");
  std::vector<float> x(64), y(64);
  softmetal::Shadow shadow(x.data(), 256, false);
  const std::vector<softmetal::Binding> bindings{{x.data(), 256, &shadow, 0}, {y.data(), 256}};
  CHECK_CONTAINS(kernels().launch(Mode::checked, "unwritten_buffer", threads(64), bindings),
                 "reads bytes 252 to 256 of buffer 0 (x), which nothing has written");
  x[63] = 5;  // by the host
  CHECK_EQ(kernels().launch(Mode::checked, "unwritten_buffer", threads(64), bindings), "");
}

TEST(softmetal_checks, divergent_flow_in_both_modes) {
  for (Mode mode : {Mode::checked, Mode::fast}) {
    CHECK_CONTAINS(fault_of("two_operations", threads(64), mode), "simdgroup operations in divergent flow");
    CHECK_CONTAINS(fault_of("half_an_operation", threads(64), mode),
                   "16 of 32 lanes of simdgroup 0 wait at test:");
    CHECK_CONTAINS(fault_of("half_a_barrier", threads(64), mode), "40 of 64 threads are at test:");
    CHECK_CONTAINS(fault_of("two_barriers", threads(64), mode), "wait at different barriers");
    CHECK_CONTAINS(fault_of("from_a_missing_lane", threads(20), mode), "a lane that is not active");
    CHECK_CONTAINS(fault_of("from_no_lane", threads(32), mode), "a lane that does not exist");
  }
}

TEST(softmetal_checks, launches_that_cannot_be) {
  CHECK_CONTAINS(fault_of("too_much_memory"),
                 "launch: kernel too_much_memory: 32784 bytes of threadgroup memory");
  CHECK_CONTAINS(fault_of("past_an_argument"), "no length was set for threadgroup argument s");
  CHECK_CONTAINS(fault_of("fill", threads(1025)), "1025 threads per threadgroup; the kernel allows 1024");
  CHECK_CONTAINS(fault_of("fill", threads(0)), "an empty grid or threadgroup");
  CHECK_CONTAINS(kernels().launch(Mode::fast, "fill", threads(4), {}),
                 "no buffer is bound for argument y at index 0");
}

TEST(softmetal_checks, faults_leave_the_machine_in_order) {
  for (int i = 0; i < 200; ++i) CHECK(!fault_of("half_a_barrier").empty());
  CHECK_EQ(fault_of("fill"), "");
}

TEST(softmetal_checks, dispatches_without_a_barrier) {
  std::vector<float> y(64);
  softmetal::Shadow shadow(y.data(), 256, true);
  const softmetal::Function fill = kernels().function("fill");
  softmetal::Hazards hazards;
  auto run = [&](std::size_t offset) {
    softmetal::Launch launch;
    launch.function = &fill;
    launch.grid = launch.threads = {16, 1, 1};
    launch.buffers[0] = {y.data() + offset, 256 - offset * 4, &shadow, offset * 4};
    auto fault = softmetal::run(launch, &hazards);
    return fault ? fault->text : "";
  };
  CHECK_EQ(run(0), "");
  CHECK_EQ(run(16), "");  // other bytes
  CHECK_CONTAINS(run(8),
                 "writes bytes 0 to 4 of buffer 0 (y), and no barrier separates it from dispatch 0 (fill)");
  hazards.barrier();
  CHECK_EQ(run(8), "");
}
