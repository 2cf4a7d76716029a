// What the lowering makes of MSL: the text, the table of kernels, the constants, and what it refuses.
#include "cuda/lower/entry.h"
#include "cuda/lower/library.h"
#include "cuda/lower/lower.h"
#include "gpu/device/kernel_sources.h"
#include "msl/sources.h"
#include "npu/error.h"

using namespace npu;
using namespace npu::test;
using cuda::KernelParameter;
using cuda::Lowered;

namespace {

Lowered lowered(const std::string& text, const Files& files = {}) {
  return cuda::lower(text, "test", [&](const std::string& name) -> std::optional<std::string> {
    const auto file = files.find(name);
    return file == files.end() ? std::nullopt : std::optional(file->second);
  });
}

// The text in one line, without #line.
std::string code(const std::string& text) {
  std::string result;
  std::istringstream lines(lowered(text).text);
  for (std::string line; std::getline(lines, line);) {
    if (line.empty() || line[0] == '#') continue;
    result += (result.empty() ? "" : " ") + line;
  }
  return result;
}

std::string lower_error(const std::string& text) {
  return source_error([&] { lowered(text); });
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

const char* const kKernel = R"(#include <metal_stdlib>
using namespace metal;
#include "args.h"
enum { kBufferArgs, kBufferX, kBufferY };
enum { kFcLog = 3, kFcScale, kFcPace };
constant bool logged [[function_constant(kFcLog)]];
constant float scale [[function_constant(kFcScale)]];
constant int pace [[function_constant(kFcPace)]];
constant bool has_pace = is_function_constant_defined(pace);
template <typename T>
[[kernel]] void soft(constant Args& args [[buffer(kBufferArgs)]], const device T* x [[buffer(kBufferX), function_constant(logged)]],
                     device T* y [[buffer(kBufferY)]], threadgroup T* room [[threadgroup(0)]],
                     uint3 at [[thread_position_in_grid]]) {
  threadgroup float shared[4];
  y[at.x] = x[at.x];
}
template [[host_name("soft_" "half")]] [[kernel]] decltype(soft<half>) soft<half>;
)";
const Files kArgs = {{"args.h", "#pragma once\nstruct Args { int n; };\n"}};

}  // namespace

TEST(cuda_lower, address_spaces_literals_swizzles_and_pragmas) {
  CHECK_EQ(code("constant constexpr int n = 4;"), "const constexpr int n = 4;");
  CHECK_EQ(code("inline float f(const device float* x, thread float& y) { return 1.0 + 2e3 * 0x1p3 + 3; }"),
           "__forceinline__ float f(const float* x, float& y) { return 1.0f + 2e3f * 0x1p3f + 3; }");
  CHECK_EQ(code("void f() { half h = 1.5h; bfloat b = 2.0bf; }"),
           "void f() { half h = half(1.5f); bfloat b = bfloat(2.0f); }");
  CHECK_EQ(code("float2 f(float4 v) { v.x = 1; return v.xy + v.zyx.xy + select(v.wz, v.xx, v.xx == v.yy); }"),
           "float2 f(float4 v) { v.x = 1; return v.xy() + v.zyx().xy() + select(v.wz(), v.xx(), v.xx() == "
           "v.yy()); }");
  CHECK_EQ(code("#define UNROLL _Pragma(\"clang loop unroll(full)\")\nvoid f() {\n#pragma clang fp "
                "contract(off)\nUNROLL for (;;) ; }"),
           "void f() { _Pragma(\"unroll\") for (;;) ; }");
}

TEST(cuda_lower, the_table_of_kernels) {
  const Lowered library = lowered(kKernel, kArgs);
  CHECK_EQ(library.kernels.size(), 1u);
  const cuda::LoweredKernel& kernel = library.kernels[0];
  CHECK_EQ(kernel.name, "soft_half");
  CHECK_EQ(kernel.call, "soft<half>");
  using Kind = KernelParameter::Kind;
  CHECK_EQ(kernel.parameters.size(), 5u);
  CHECK(kernel.parameters[0].kind == Kind::kArgs && kernel.parameters[0].text == "Args");
  CHECK(kernel.parameters[1].kind == Kind::kBuffer && kernel.parameters[1].number == 1);
  CHECK_EQ(kernel.parameters[1].condition, "logged");
  CHECK(kernel.parameters[2].kind == Kind::kBuffer && kernel.parameters[2].number == 2);
  CHECK(kernel.parameters[3].kind == Kind::kThreadgroup);
  CHECK(kernel.parameters[4].kind == Kind::kInput && kernel.parameters[4].text == "thread_position_in_grid");
  CHECK(contains(library.text, "__shared__ float shared[4];"));
  CHECK(!contains(library.text, "[["));
  CHECK(contains(library.text, "#line 2 \"args.h\""));
}

TEST(cuda_lower, function_constants_are_macros) {
  const Lowered library = lowered(kKernel, kArgs);
  CHECK(contains(library.text, "constexpr bool logged = bool(NPU_FC_3);"));
  CHECK(contains(library.text, "constexpr float scale = __builtin_bit_cast(float, int(NPU_FC_4));"));
  CHECK(contains(library.text, "constexpr bool has_pace = bool(NPU_FC_5_DEFINED);"));
  CHECK_EQ(library.constants.size(), 3u);
  CHECK(library.constants[0].required && !library.constants[2].required);
}

TEST(cuda_lower, errors_name_file_and_line) {
  CHECK_EQ(lower_error("\nvoid f(float4 v) { v.xy = v.zw; }"),
           "test:2: error: a swizzle that is assigned to is not supported: assign to its elements");
  CHECK_EQ(lower_error("void f(float4 v) { v.xy += v.zw; }"),
           "test:1: error: a swizzle that is assigned to is not supported: assign to its elements");
  CHECK_EQ(lower_error("kernel void f(device int* x [[buffer(k)]]) {}"),
           "test:1: error: `k` has no value that is known here");
  CHECK_EQ(lower_error("kernel void f(threadgroup int* x [[threadgroup(1)]]) {}"),
           "test:1: error: parameter x: only [[threadgroup(0)]] is supported");
  CHECK_EQ(lower_error("kernel void f(device int& x [[buffer(0)]]) {}"),
           "test:1: error: parameter x: a reference is to the arguments, `constant T& [[buffer(0)]]`");
  CHECK_EQ(lower_error("constant half2 c [[function_constant(0)]];"),
           "test:1: error: function constant c has a type that is not supported, half2");
  CHECK_EQ(lower_error("constant int a [[function_constant(1)]];\nconstant int b [[function_constant(1)]];"),
           "test:2: error: function constant b (1) has the number of a");
  CHECK_EQ(lower_error("constant bool a = is_function_constant_defined(b);"),
           "test:1: error: b is no function constant");
  CHECK_EQ(lower_error("#include \"none.h\""), "test:1: error: there is no file none.h to include");
}

TEST(cuda_lower, entries) {
  const Lowered library = lowered(kKernel, kArgs);
  const cuda::LoweredKernel& kernel = library.kernels[0];
  CHECK_EQ(cuda::entry_name(kernel), "npu_soft_half");
  cuda::EntryOptions options;
  options.most_threads = 256;
  std::string text = cuda::entry_text(kernel, options);
  CHECK(contains(text,
                 "__global__ void __launch_bounds__(256) npu_soft_half(const __grid_constant__ Args npu_0, "
                 "void* npu_1, void* npu_2)"));
  CHECK(contains(text,
                 "soft<half>(npu_0, npu::Pointer{npu_1}, npu::Pointer{npu_2}, npu::Pointer{npu_threadgroup}, "
                 "npu_inputs.thread_position_in_grid());"));
  CHECK(contains(text, "npu::inputs_of_grid(npu::block_size())"));
  CHECK(contains(text, "{\n  npu::let_next_launch_begin();\n  npu::wait_for_inputs();\n"));
  options.waits = true;
  text = cuda::entry_text(kernel, options);
  CHECK(contains(text, "{\n  npu::let_next_launch_begin();\n  [[maybe_unused]]"));
  CHECK(contains(text, ");\n  npu::wait_for_inputs();\n}\n"));
  options.as_line = true;
  options.threads = {32, 4, 1};
  const std::int64_t args = 7;
  options.constant_args = std::as_bytes(std::span(&args, 1));
  text = cuda::entry_text(kernel, options);
  CHECK(contains(text,
                 "__launch_bounds__(128) npu_soft_half(void* npu_1, void* npu_2, uint npu_across, uint "
                 "npu_down, uint npu_deep)"));
  CHECK(contains(text, "npu::inputs_of_line(npu::Position{32, 4, 1}, npu_across, npu_down, npu_deep)"));
  CHECK(contains(text, "args_of_npu_soft_half[] = {7ul, };"));
}

TEST(cuda_lower, constants_need_their_values) {
  const Lowered library = lowered(kKernel, kArgs);
  const cuda::ConstantBits some[] = {{3, 1}, {4, 0x3f800000}, {3, 0}};
  const std::vector<std::string> none;
  const std::string text = cuda::program_text(library, std::span(some, 2), none);
  CHECK(contains(text,
                 "#define NPU_FC_3 (1)\n#define NPU_FC_4 (1065353216)\n#define NPU_FC_5 (0)\n#define "
                 "NPU_FC_5_DEFINED 0\n"));
  CHECK_THROWS(cuda::program_text(library, std::span(some, 1), none),
               "function constant scale (4) of test has no value");
  CHECK_THROWS(cuda::program_text(library, std::span(some, 3), none), "logged (3) of test has two values");
}

TEST(cuda_lower, built_in_libraries_are_lowered_already) {
  int count = 0;
  for (const cuda::EmbeddedLibrary* one = cuda::kLibraries; !one->name.empty(); ++one, ++count) {
    const Lowered built = cuda::lowered_library(one->name);
    const std::string file = std::string(one->name) + ".metal";
    const Lowered now = cuda::lower("#include \"" + file + "\"", file, gpu::kernel_file);
    CHECK_EQ(built.name, std::string(one->name));
    CHECK_EQ(built.text == now.text, true);
    CHECK_EQ(built.kernels.size(), now.kernels.size());
    for (std::size_t i = 0; i < built.kernels.size(); ++i) {
      CHECK_EQ(built.kernels[i].name, now.kernels[i].name);
      CHECK_EQ(cuda::entry_text(built.kernels[i], {}), cuda::entry_text(now.kernels[i], {}));
    }
  }
  CHECK(count >= 20);
}

TEST(cuda_lower, generated_kernels) {
  const std::string map =
      "#include \"map.h\"\n\n[[kernel]] void map(constant MapArgs<2>& args [[buffer(0)]], device float* y "
      "[[buffer(1)]]) {}\n";
  const Lowered generated = cuda::lowered_library("", map);
  CHECK_EQ(generated.kernels.size(), 1u);
  CHECK_EQ(generated.kernels[0].parameters[0].text, "MapArgs<2>");
  const Lowered product = cuda::lowered_library(
      "matmul", "#include \"extras.h\"\n#define NPU_EPILOGUE\n#define NPU_ONLY 0\ntypedef float Finished;\n");
  CHECK(product.find("matmul_large_k_major_float") != nullptr);
  CHECK(product.find("matmul_large_k_major_half") == nullptr);
  CHECK_THROWS(cuda::lowered_library("", "#error wrong"),
               "a kernel cannot be lowered: generated:1: error: wrong");
  CHECK_THROWS(cuda::lowered_library("none"), "there is no file none.metal to include");
}
