// What the lowering makes of MSL: kernels, instantiations, constants, threadgroup variables, inputs; and what
// it refuses because Apple's compiler would.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "kernels.h"

using namespace npu::test;

namespace {

const char* const kSource = R"(
#define WIDTH 4
constant bool doubled [[function_constant(0)]];
constant int pace [[function_constant(1)]];
constant bool has_pace = is_function_constant_defined(pace);
constant int by = (has_pace && pace != 0) ? pace : 100;
constant float table[3] = {1.5, 2.5, 3.5};
namespace tools {
struct Pair { float a, b; float sum() const { return a + b; } };
template <typename T, int N> T sum(threadgroup const T* values) {
  T total = 0;
  for (int i = 0; i < N; ++i) total += values[i];
  return total;
}
kernel void inside(device float* y [[buffer(0)]], uint i [[thread_position_in_grid]]) { y[i] = table[i % 3]; }
}  // namespace tools

template <typename T, int N>
[[kernel]] void blocks(device T* y [[buffer(0)]], device const T* x [[buffer(1)]],
                       uint i [[thread_position_in_threadgroup]], uint g [[threadgroup_position_in_grid]]) {
  threadgroup T values[N], others[WIDTH * 2][2];
  values[i] = x[g * N + i];
  if (i < 1) {
    threadgroup tools::Pair pair;
    pair.a = 1, pair.b = 2;
    others[0][0] = T(pair.sum());
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  threadgroup T* first = values;
  y[g * N + i] = tools::sum<T, N>(first) + others[0][0];
}
template [[host_name("blocks_float_8")]] [[kernel]] void blocks<float, 8>(
    device float* y [[buffer(0)]], device const float* x [[buffer(1)]], uint i [[thread_position_in_threadgroup]],
    uint g [[threadgroup_position_in_grid]]);
#define instantiate(T, n) template [[host_name("blocks_" #T "_" #n)]] [[kernel]] decltype(blocks<T, n>) blocks<T, n>;
instantiate(int, 16)

kernel void constants(device float* y [[buffer(0)]],
                      device const float* extra [[buffer(1), function_constant(doubled)]]) {
  y[0] = doubled ? 2 * extra[0] : 1;
  y[1] = by;
}
struct Position { ushort3 in_group; uint3 in_grid; };
kernel void inputs(device uint* y [[buffer(0)]], uint3 grid [[thread_position_in_grid]],
                   ushort2 local [[thread_position_in_threadgroup]], uint2 group [[threadgroup_position_in_grid]],
                   uint index [[thread_index_in_threadgroup]], uint lane [[thread_index_in_simdgroup]],
                   uint simd [[simdgroup_index_in_threadgroup]], uint3 size [[threads_per_threadgroup]],
                   uint2 groups [[threadgroups_per_grid]], uint3 all [[threads_per_grid]],
                   uint width [[threads_per_simdgroup]], uint simds [[simdgroups_per_threadgroup]],
                   uint2 nominal [[dispatch_threads_per_threadgroup]]) {
  device uint* z = y + (grid.y * all.x + grid.x) * 12;
  z[0] = grid.x, z[1] = local.x, z[2] = local.y, z[3] = group.x, z[4] = index, z[5] = lane;
  z[6] = simd, z[7] = size.x * 100 + size.y, z[8] = groups.x * 100 + groups.y, z[9] = width;
  z[10] = simds, z[11] = nominal.x * 100 + nominal.y;
}
kernel void dynamic(device float* y [[buffer(0)]], threadgroup float* a [[threadgroup(0)]],
                    threadgroup float4* b [[threadgroup(1)]], uint i [[thread_position_in_threadgroup]],
                    uint n [[threads_per_threadgroup]]) {
  a[i] = i;
  b[i] = float4(i * 10);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[i] = a[n - 1 - i] + b[n - 1 - i].w;
}
kernel void many_barriers(device float* y [[buffer(0)]], uint i [[thread_position_in_threadgroup]],
                          uint n [[threads_per_threadgroup]]) {
  threadgroup float s[2][1024];
  s[0][i] = 1;
  uint at = 0;
  for (uint step = 1; step < n; step *= 2) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    s[1 - at][i] = s[at][i] + (i >= step ? s[at][i - step] : 0);
    at = 1 - at;
  }
  y[i] = s[at][i];
}
[[host_name("renamed")]] kernel void plain(device float* y [[buffer(0)]], constant float& value [[buffer(1)]]) {
  y[0] = value;
}
)";

// Numbers in attributes are names, as those in a header that C++ includes too.
const char* const kNamed = R"(
enum { kFcFirst = 3, kFcScale, kFcEnd };
enum { kFcFlag = kFcEnd };
enum { kBufferY = 2, kBufferX, kBufferEnd };
constant constexpr int kBufferLast = kBufferEnd + 2;
constant float scale [[function_constant(kFcScale)]];
constant bool flag [[function_constant(kFcFlag)]];
#define NPU_OPERANDS                         \
  device const float *x [[buffer(kBufferX)]], \
      device const float *extra [[buffer(kBufferEnd + 1), function_constant(flag)]]
template <typename T>
[[kernel]] void named(device T* y [[buffer(kBufferY)]], NPU_OPERANDS, device T* last [[buffer(kBufferLast)]]) {
  y[0] = T(x[0] * scale);
  last[0] = flag ? T(extra[0]) : T(0);
}
template [[host_name("named_float")]] [[kernel]] decltype(named<float>) named<float>;
namespace tools {
enum { kBufferOut = 1 };
kernel void inner(device float* y [[buffer(kBufferOut)]]) { y[0] = 5; }
}  // namespace tools
)";

Kernels& kernels() {
  static Kernels all(kSource);
  return all;
}

void set(Kernels& kernels, bool doubled, int step = 0) {
  kernels.clear_constants();
  kernels.set_constant(0, &doubled, 1);
  if (step) kernels.set_constant(1, &step, 4);
}

}  // namespace

TEST(softmetal_language, instantiations_of_both_forms) {
  set(kernels(), false);
  for (unsigned n : {8u, 16u}) {
    std::vector<float> x(2 * n);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i);
    auto wanted = [=](std::size_t i) {
      float sum = 3;
      for (std::size_t k = 0; k < n; ++k) sum += static_cast<float>(i / n * n + k);
      return sum;
    };
    if (n == 8) expect<float>(kernels(), "blocks_float_8", groups(2, n), 2 * n, wanted, x);
    if (n == 16)
      expect<int>(
          kernels(), "blocks_int_16", groups(2, n), 2 * n,
          [&](std::size_t i) { return static_cast<int>(wanted(i)); }, std::vector<int>(x.begin(), x.end()));
  }
  CHECK_EQ(kernels().function("blocks_float_8").layout().bytes, 32u + 64u + 16u);
  CHECK_EQ(kernels().function("blocks_int_16").layout().bytes, 64u + 64u + 16u);
  expect<float>(kernels(), "inside", threads(6), 6,
                [](std::size_t i) { return 1.5f + static_cast<float>(i % 3); });
  expect<float>(kernels(), "renamed", threads(1), 1, [](std::size_t) { return 7.0f; }, std::vector<float>{7});
}

TEST(softmetal_language, function_constants) {
  for (Mode mode : {Mode::fast, Mode::checked}) {
    std::vector<float> y(2), extra{21};
    set(kernels(), true, 5);
    CHECK_EQ(kernels().run(mode, "constants", threads(1), y, extra), "");
    CHECK_EQ(y[0], 42.0f);
    CHECK_EQ(y[1], 5.0f);
    CHECK_CONTAINS(kernels().run(mode, "constants", threads(1), y), "no buffer is bound for argument extra");
    set(kernels(), false);
    CHECK_EQ(kernels().run(mode, "constants", threads(1), y), "");
    CHECK_EQ(y[0], 1.0f);
    CHECK_EQ(y[1], 100.0f);
  }
}

TEST(softmetal_language, numbers_of_attributes_may_be_names) {
  Kernels named(kNamed);
  float y = 0, x = 3, extra = 7, last = 0;
  std::vector<softmetal::Binding> bindings(7);
  bindings[2] = {&y, sizeof y};
  bindings[3] = {&x, sizeof x};
  bindings[5] = {&extra, sizeof extra};
  bindings[6] = {&last, sizeof last};
  for (const bool flag : {true, false}) {
    const float scale = 2;
    named.clear_constants();
    named.set_constant(4, &scale, sizeof scale);
    named.set_constant(5, &flag, 1);
    if (!flag) bindings[5] = {};
    for (Mode mode : {Mode::fast, Mode::checked}) {
      CHECK_EQ(named.launch(mode, "named_float", threads(1), bindings), "");
      CHECK_EQ(y, 6.0f);
      CHECK_EQ(last, flag ? 7.0f : 0.0f);
    }
  }
  std::vector<float> unused(1), out(1);
  CHECK_EQ(named.run(Mode::checked, "inner", threads(1), unused, out), "");
  CHECK_EQ(out[0], 5.0f);
}

TEST(softmetal_language, numbers_of_attributes_must_be_known) {
  CHECK_CONTAINS(compile_error("kernel void f(device float* y [[buffer(kNowhere)]]) { y[0] = 1; }"),
                 "kNowhere");
  CHECK_CONTAINS(compile_error("constant bool flag [[function_constant(kNoNumber)]];\n"
                               "kernel void f(device float* y [[buffer(0)]]) { y[0] = flag ? 1 : 2; }"),
                 "kNoNumber");
}

TEST(softmetal_language, numbers_of_attributes_differ) {
  const std::string buffers =
      "enum { kX, kY = kX };\n"
      "constant bool both [[function_constant(0)]];\n"
      "kernel void f(device float* x [[buffer(kX), function_constant(both)]], device float* y "
      "[[buffer(kY)]]) {\n"
      "  y[0] = both ? x[0] : 1.0f;\n}\n";
  for (const bool both : {false, true}) {  // one that does not exist has no number
    Kernels kernels(buffers);
    kernels.set_constant(0, &both, 1);
    std::string fault;
    try {
      kernels.function("f", Mode::fast);
    } catch (const softmetal::MachineError& error) {
      fault = error.what();
    }
    CHECK_EQ(fault, both ? "function f: arguments x and y have one number, 0" : "");
  }
  CHECK_CONTAINS(
      compile_error("constant bool a [[function_constant(2)]];\n"
                    "constant bool b [[function_constant(1 + 1)]];\n"
                    "kernel void f(device float* y [[buffer(0)]]) { y[0] = a || b ? 1.0f : 0.0f; }"),
      "function constant a (2) has the number of b");
}

TEST(softmetal_language, inputs_of_threads_also_at_the_edges) {
  set(kernels(), false);
  const Shape shape{{10, 5, 1}, {8, 4, 1}, {}};
  expect<unsigned>(kernels(), "inputs", shape, 50 * 12, [](std::size_t i) {
    const unsigned x = static_cast<unsigned>(i / 12 % 10), y = static_cast<unsigned>(i / 120);
    const unsigned width = x < 8 ? 8 : 2, height = y < 4 ? 4 : 1;
    const unsigned index = y % 4 * width + x % 8;
    const unsigned wanted[] = {
        x, x % 8, y % 4, x / 8, index, index % 32, index / 32, width * 100 + height, 2 * 100 + 2, 32, 1, 804};
    return wanted[i % 12];
  });
}

TEST(softmetal_language, threadgroup_memory_of_the_encoder) {
  set(kernels(), false);
  for (unsigned n : {1u, 31u, 33u, 200u}) {
    Shape shape = threads(n);
    shape.threadgroup_bytes = {n * 4, n * 16};
    expect<float>(kernels(), "dynamic", shape, n,
                  [=](std::size_t i) { return static_cast<float>((n - 1 - i) * 11); });
  }
}

TEST(softmetal_language, barriers_of_many_threads) {
  set(kernels(), false);
  for (unsigned n : {1u, 2u, 100u, 1024u})
    expect<float>(kernels(), "many_barriers", threads(n), n,
                  [](std::size_t i) { return static_cast<float>(i + 1); });
}

TEST(softmetal_language, errors_name_file_and_line) {
  CHECK_CONTAINS(compile_error("\nkernel void f(device float* y [[buffer(0)]]) { double x = 1; y[0] = x; }"),
                 "test:2: error: MSL has no double");
  CHECK_CONTAINS(compile_error("\n\nkernel void f(device float* y) { y[0] = 1; }"),
                 "test:3: error: parameter y needs");
  CHECK_CONTAINS(compile_error("kernel void f(device float* y [[buffer(0)]]) { y[0] = x; }"), "test:1:");
  CHECK_CONTAINS(compile_error("kernel int f(device float* y [[buffer(0)]]) { return 1; }"),
                 "must return void");
  CHECK_CONTAINS(compile_error("kernel void f(uint i [[thread_position]]) {}"), "thread_position");
  CHECK_CONTAINS(
      compile_error("kernel void f(device float* y [[buffer(0)]]) { threadgroup int n = 1; y[0] = n; }"),
      "has no initial value");
  CHECK_CONTAINS(compile_error("template <class T> kernel void f(device T* y [[buffer(0)]]) {}\n"
                               "template kernel void f<int>(device int* y [[buffer(0)]]);"),
                 "host_name");
  CHECK_CONTAINS(compile_error("#error wrong"), "wrong");
}

TEST(softmetal_language, what_apples_library_lacks_does_not_compile) {
  auto with = [](const std::string& statement) {
    return compile_error("kernel void f(device float* y [[buffer(0)]], device bfloat* b [[buffer(1)]]) { " +
                         statement + " }");
  };
  CHECK_CONTAINS(with("y[0] = exp(b[0]);"), "deleted");
  CHECK_CONTAINS(with("y[0] = float(simd_sum(b[0]));"), "no simdgroup functions of bfloat");
  CHECK_CONTAINS(with("y[0] = simd_sum(long(1));"), "64-bit");
  CHECK_CONTAINS(with("b[0] = y[0];"), "error");
  CHECK_CONTAINS(with("y[0] = max(y[0], 0);"), "ambiguous");
  CHECK_CONTAINS(with("y[0] = float4(1, 2, 3).x;"), "as many elements");
  CHECK_CONTAINS(with("int4 k = float4(1); y[0] = k.x;"), "error");
}

// Several processes that need the same library at once all get it.
TEST(softmetal_language, processes_share_the_cache) {
  const auto folder = std::filesystem::temp_directory_path() / ("softmetal-test-" + std::to_string(getpid()));
  setenv("SOFTMETAL_CACHE", folder.c_str(), 1);
  std::vector<pid_t> children;
  for (int i = 0; i < 3; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      Kernels shared("kernel void f(device float* y [[buffer(0)]]) { y[0] = 3; }");
      std::vector<float> y(1);
      const bool right = shared.run(Mode::fast, "f", threads(1), y).empty() && y[0] == 3;
      _exit(right ? 0 : 1);
    }
    children.push_back(child);
  }
  for (pid_t child : children) {
    int status = 1;
    waitpid(child, &status, 0);
    CHECK_EQ(status, 0);
  }
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    files += entry.path().extension() != "";
  CHECK_EQ(files, 1);
  std::filesystem::remove_all(folder);
  unsetenv("SOFTMETAL_CACHE");
}

TEST(softmetal_language, a_changed_include_is_compiled_again) {
  const auto folder =
      std::filesystem::temp_directory_path() / ("softmetal-include-" + std::to_string(getpid()));
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "outer.h") << "#include \"inner.h\"\n";
  for (const float value : {1.0f, 2.0f}) {
    std::ofstream(folder / "inner.h") << "constant float value = " << value << ";\n";
    softmetal::CompileOptions options;
    options.include_directories = {folder.string()};
    const auto library = softmetal::Library::from_source(
        "#include <metal_stdlib>\n#include \"outer.h\"\nkernel void f(device float* y [[buffer(0)]]) { y[0] "
        "= value; }\n",
        options);
    const softmetal::Function function(library, "f", {}, Mode::fast);
    float y = 0;
    softmetal::Launch launch;
    launch.function = &function;
    launch.buffers[0] = {&y, sizeof y};
    CHECK(!softmetal::run(launch));
    CHECK_EQ(y, value);
  }
  std::filesystem::remove_all(folder);
}
