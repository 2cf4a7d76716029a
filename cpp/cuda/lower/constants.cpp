// Function constants and the constants computed from them.
#include <algorithm>
#include <array>
#include <string_view>

#include "cuda/lower/lowering.h"

namespace npu::cuda {

namespace {

constexpr std::array<std::string_view, 9> kIntegers{"bool", "char", "uchar",   "short",   "ushort",
                                                    "int",  "uint", "int32_t", "uint32_t"};

std::string macro(std::int64_t number) { return "NPU_FC_" + std::to_string(number); }
std::string defined_macro(std::int64_t number) { return macro(number) + "_DEFINED"; }

}  // namespace

void Lowering::lower_constants() {
  for (const msl::DefinedQuery& query : source_.defined_queries) {
    const auto constant =
        std::find_if(source_.constants.begin(), source_.constants.end(),
                     [&](const msl::Constant& c) { return !c.computed && c.name == query.name; });
    if (constant == source_.constants.end())
      source_.fail(query.call.begin, query.name + " is no function constant");
    replace(query.call, "bool(" + defined_macro(source_.number(constant->number)) + ")");
  }
  for (const msl::Constant& constant : source_.constants) {
    if (constant.computed)
      lower_computed_constant(constant);
    else
      lower_function_constant(constant);
  }
}

void Lowering::lower_function_constant(const msl::Constant& constant) {
  const std::size_t begin = constant.declaration.begin;
  const std::int64_t number = source_.number(constant.number);
  for (const LoweredConstant& other : result_.constants) {
    if (other.number == number)
      source_.fail(begin, "function constant " + constant.name + " (" + std::to_string(number) +
                              ") has the number of " + other.name);
  }
  std::string value;
  if (constant.type == "float") {
    value = "__builtin_bit_cast(float, int(" + macro(number) + "))";
  } else if (std::find(kIntegers.begin(), kIntegers.end(), constant.type) != kIntegers.end()) {
    value = constant.type + "(" + macro(number) + ")";
  } else {
    source_.fail(
        begin, "function constant " + constant.name + " has a type that is not supported, " + constant.type);
  }
  replace(constant.declaration, "constexpr " + constant.type + " " + constant.name + " = " + value + ";");
  result_.constants.push_back({static_cast<int>(number), constant.name, constant.required});
}

void Lowering::lower_computed_constant(const msl::Constant& constant) {
  const std::string text =
      "constexpr " + constant.type + " " + constant.name + " = " + tokens_.text(constant.value) + ";";
  replace(constant.declaration, text);
}

}  // namespace npu::cuda
