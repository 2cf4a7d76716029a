// Kernel functions, and the table that says how they are called.
#include "cuda/lower/lowering.h"

namespace npu::cuda {

namespace {

// "softmax" "_" "float" as one text.
std::string joined_literals(const std::string& literals) {
  std::string result;
  bool inside = false;
  for (const char c : literals) {
    if (c == '"')
      inside = !inside;
    else if (inside)
      result += c;
  }
  return result;
}

}  // namespace

void Lowering::lower_kernel(const msl::Kernel& kernel) {
  for (const msl::Range& attribute : kernel.attributes) erase(attribute);
  for (const msl::Parameter& parameter : kernel.parameters)
    for (const msl::Range& attribute : parameter.attributes) erase(attribute);
  if (source_.find(kernel.head.begin, kernel.head.end, "inline") == kernel.head.end)
    tokens_.list[kernel.head.begin].spelling.insert(0, "__forceinline__ ");
  for (const msl::ThreadgroupVariables& variables : kernel.threadgroup_variables)
    tokens_.list[variables.keyword].spelling = "__shared__";
  if (kernel.body.end != 0 && !kernel.is_template)
    add_kernel(kernel, kernel.host_name, kernel.scope + kernel.name);
}

void Lowering::add_kernel(const msl::Kernel& kernel, const std::string& host_name, const std::string& call) {
  LoweredKernel lowered;
  lowered.name = host_name.empty() ? kernel.name : joined_literals(host_name);
  lowered.call = call;
  if (result_.find(lowered.name) != nullptr)
    source_.fail(kernel.open, "two kernels are called " + lowered.name);
  for (const msl::Parameter& one : kernel.parameters) lowered.parameters.push_back(parameter(one));
  result_.kernels.push_back(std::move(lowered));
}

KernelParameter Lowering::parameter(const msl::Parameter& from) const {
  using Kind = KernelParameter::Kind;
  const msl::Range all = from.declaration;
  if (from.kind == msl::Parameter::Kind::kInput) return {Kind::kInput, 0, from.input, {}};
  const auto number = static_cast<int>(source_.number(from.number));
  if (from.kind == msl::Parameter::Kind::kThreadgroup) {
    if (number != 0)
      source_.fail(all.begin, "parameter " + from.name + ": only [[threadgroup(0)]] is supported");
    return {Kind::kThreadgroup, 0, {}, {}};
  }
  const std::size_t constant = source_.find(all.begin, all.end, "constant");
  const std::size_t reference = source_.find(all.begin, all.end, "&");
  if (reference == all.end) return {Kind::kBuffer, number, {}, from.condition};
  if (constant == all.end || number != 0 || !from.condition.empty())
    source_.fail(all.begin,
                 "parameter " + from.name + ": a reference is to the arguments, `constant T& [[buffer(0)]]`");
  return {Kind::kArgs, 0, source_.text({constant + 1, reference}), {}};
}

}  // namespace npu::cuda
