// What the parser reads of kernels, constants and instantiations, and what it refuses.
#include "msl/numbers.h"
#include "msl/source.h"
#include "msl/sources.h"

using namespace npu;
using namespace npu::test;

namespace {

msl::Source parsed(const std::string& text) { return msl::parse(msl::preprocess(text, "test", {})); }

std::string parse_error(const std::string& text) {
  return source_error([&] { parsed(text); });
}

const char* const kKernels = R"(
enum { kFirst, kSecond = 1 << 2, kThird };
enum class Kind : int { kOne = 1, kTwo };
constant constexpr int kBlock = 8 * int(kSecond), kOther = 1;
constant bool flag [[function_constant(kThird)]];
constant int pace [[function_constant(kThird + 1)]];
constant bool has_pace = is_function_constant_defined(pace);
constant int twice = has_pace ? 2 * pace : 1;
constant float table[2] = {1.0, 2.0};
namespace inner {
template <typename T, int N>
[[kernel, max_total_threads_per_threadgroup(64)]] void f(
    constant Args<2>& args [[buffer(kFirst)]], const device T* x [[buffer(kSecond), function_constant(flag)]],
    threadgroup T* room [[threadgroup(1)]], uint2 at [[thread_position_in_grid]]) {
  threadgroup alignas(16) T values[N][kBlock], more;
  threadgroup T* pointer = values[0];
  if (flag) { threadgroup int count; }
}
}
template [[host_name("f_" "float")]] [[kernel]] decltype(inner::f<float, 4>) inner::f<float, 4>;
template [[host_name("f_int"), max_total_threads_per_threadgroup(32)]] [[kernel]] void inner::f<int, 2>(
    constant Args<2>&, const device int*, threadgroup int*, uint2);
[[host_name("other")]] kernel void g(device float* y [[buffer(2)]]) { y[0] = table[0]; }
)";

}  // namespace

TEST(msl_source, kernels_and_parameters) {
  const msl::Source source = parsed(kKernels);
  CHECK_EQ(source.kernels.size(), 2u);
  const msl::Kernel& f = source.kernels[0];
  CHECK_EQ(f.name, "f");
  CHECK(f.is_template);
  CHECK_EQ(f.scope, "inner::");
  CHECK_EQ(f.max_threads, "64");
  CHECK_EQ(f.parameters.size(), 4u);
  using Kind = msl::Parameter::Kind;
  CHECK(f.parameters[0].kind == Kind::kBuffer && f.parameters[0].name == "args");
  CHECK_EQ(source.text(f.parameters[1].number), "kSecond");
  CHECK_EQ(f.parameters[1].condition, "flag");
  CHECK(f.parameters[2].kind == Kind::kThreadgroup && f.parameters[2].name == "room");
  CHECK(f.parameters[3].kind == Kind::kInput && f.parameters[3].input == "thread_position_in_grid");
  CHECK_EQ(f.threadgroup_variables.size(), 2u);
  CHECK_EQ(source.text(f.threadgroup_variables[0].type), "alignas(16) T");
  CHECK_EQ(f.threadgroup_variables[0].variables.size(), 2u);
  CHECK_EQ(source.text(f.threadgroup_variables[0].variables[0].extents), "[N][kBlock]");
  CHECK_EQ(f.threadgroup_variables[1].variables[0].name, "count");
  CHECK_EQ(source.kernels[1].host_name, "\"other\"");
  CHECK_EQ(source.kernels[1].scope, "");
  CHECK(!source.kernels[1].is_template);
}

TEST(msl_source, instantiations) {
  const msl::Source source = parsed(kKernels);
  CHECK_EQ(source.instantiations.size(), 2u);
  CHECK_EQ(source.instantiations[0].function, "inner::f<float, 4>");
  CHECK_EQ(source.instantiations[0].host_name, "\"f_\" \"float\"");
  CHECK_EQ(source.instantiations[0].max_threads, "64");
  CHECK_EQ(source.instantiations[1].function, "inner::f<int, 2>");
  CHECK_EQ(source.instantiations[1].max_threads, "32");
  CHECK_EQ(source.instantiations[1].kernel, 0u);
}

TEST(msl_source, constants) {
  const msl::Source source = parsed(kKernels);
  std::string all;
  for (const msl::Constant& constant : source.constants)
    all += constant.type + " " + constant.name + (constant.computed ? " = " : " ") +
           source.text(constant.computed ? constant.value : constant.number) +
           (constant.required ? "; " : " or not; ");
  CHECK_EQ(
      all,
      "bool flag kThird; int pace kThird + 1 or not; bool has_pace = is_function_constant_defined(pace); "
      "int twice = has_pace ? 2 * pace : 1; ");
  CHECK_EQ(source.defined_queries.size(), 1u);
}

TEST(msl_source, numbers_of_names) {
  const msl::Source source = parsed(kKernels);
  CHECK_EQ(source.number(source.constants[0].number), 5);
  CHECK_EQ(source.number(source.constants[1].number), 6);
  CHECK_EQ(source.number(source.kernels[0].parameters[1].number), 4);
  CHECK_EQ(source.numbers.at("kBlock"), 32);
  CHECK_EQ(source.numbers.at("Kind::kTwo"), 2);
  const msl::Source two =
      parsed("enum { kA = 1 }; namespace n { enum { kA = 2, kB }; } namespace m { enum { kA = 2 }; }");
  CHECK_EQ(two.numbers.count("kA"), 0u);  // which one is meant is not known
  CHECK_EQ(two.numbers.count("kB"), 0u);
  const msl::Source bad = parsed("kernel void f(device float* y [[buffer(kNone)]]) {}");
  CHECK_EQ(source_error([&] { bad.number(bad.kernels[0].parameters[0].number); }),
           "test:1: error: `kNone` has no value that is known here");
}

TEST(msl_source, errors_name_file_and_line) {
  CHECK_EQ(parse_error("\ndouble x;"), "test:2: error: MSL has no double");
  CHECK_EQ(parse_error("void f("), "test:1: error: `(` is never closed");
  CHECK_EQ(parse_error("int x"), "test:1: error: a declaration that does not end");
  CHECK_EQ(parse_error("template <class T void f();"),
           "test:1: error: a template parameter list that does not end");
  CHECK_EQ(parse_error("namespace a"), "test:1: error: a namespace without a body");
  CHECK_EQ(parse_error("kernel int f() { return 1; }"), "test:1: error: kernel f must return void");
  CHECK_EQ(parse_error("kernel void f(device int* x [[buffer]]) {}"),
           "test:1: error: attribute buffer needs a number");
  CHECK_EQ(parse_error("kernel void f(device int* x) {}"),
           "test:1: error: parameter x needs an attribute: [[buffer(n)]], [[threadgroup(n)]] or an input");
  CHECK_EQ(parse_error("kernel void f(uint x [[stage_in]]) {}"),
           "test:1: error: attribute stage_in of a kernel parameter is not known here");
  CHECK_EQ(parse_error("kernel void f() {}\nkernel void f() {}"), "test:2: error: two kernels are called f");
  CHECK_EQ(parse_error("kernel void f() { threadgroup int n = 1; }"),
           "test:1: error: a threadgroup variable has no initial value");
  CHECK_EQ(parse_error("constant int a [[function_constant(0)]] = 1;"),
           "test:1: error: a function constant has no value of its own");
  CHECK_EQ(parse_error("constant int a [[function_constant(0)]];\nconstant int b[1] = {a};"),
           "test:2: error: an array computed from function constants is not supported");
  CHECK_EQ(parse_error("template [[host_name(\"f\")]] [[kernel]] void f<int>(int);"),
           "test:1: error: an instantiation of something that is no kernel template");
  CHECK_EQ(parse_error("template <class T> kernel void f() {}\ntemplate [[kernel]] void f<int>();"),
           "test:2: error: an instantiation of a kernel needs [[host_name(\"...\")]]");
}
