// Kernel functions, their instantiations and their threadgroup variables.
#include "lowering.h"

namespace softmetal {

namespace {

std::string quoted(const std::string& s) { return "\"" + s + "\""; }

}  // namespace

void Lowering::lower_kernel(const msl::Kernel& kernel) {
  for (const msl::Range& attribute : kernel.attributes) erase(attribute);
  for (const msl::Parameter& parameter : kernel.parameters)
    for (const msl::Range& attribute : parameter.attributes) erase(attribute);
  tokens_.list[kernel.open].spelling +=
      kernel.parameters.empty() ? "softmetal::Group& softmetal_group" : "softmetal::Group& softmetal_group, ";
  if (kernel.body.end == 0) return;
  for (const msl::ThreadgroupVariables& variables : kernel.threadgroup_variables)
    lower_threadgroup_variables(variables);
  tokens_.list[kernel.body.begin].spelling +=
      " struct softmetal_kernel {}; if (softmetal::measures<softmetal_kernel>(softmetal_group)) return;";
  if (!kernel.is_template)
    tokens_.list[kernel.body.end - 1].spelling +=
        registration(kernel, kernel.name, kernel.host_name, kernel.max_threads);
}

void Lowering::lower_instantiation(const msl::Instantiation& instance) {
  const msl::Kernel& kernel = source_.kernels[instance.kernel];
  const msl::Range all = instance.declaration;
  erase(all);
  tokens_.list[all.end - 1].spelling =
      registration(kernel, instance.function, instance.host_name, instance.max_threads);
}

// C++ that says what is passed: softmetal::code(softmetal::Source::buffer, 3)
std::string Lowering::code(const msl::Parameter& parameter) const {
  using Kind = msl::Parameter::Kind;
  const std::string start = "softmetal::code(softmetal::Source::";
  if (parameter.kind == Kind::kInput) return start + parameter.input + ")";
  const std::string source = parameter.kind == Kind::kBuffer ? "buffer" : "threadgroup_memory";
  return start + source + ", " + source_.text(parameter.number) + ")";
}

std::string Lowering::registration(const msl::Kernel& kernel, const std::string& function,
                                   const std::string& host_name, const std::string& max_threads) {
  std::string type = " static softmetal::KernelRegistration<&" + function;
  std::string values = host_name.empty() ? quoted(kernel.name) : host_name;
  values += ", " + (max_threads.empty() ? "0" : max_threads);
  for (const msl::Parameter& parameter : kernel.parameters) {
    type += ", " + code(parameter);
    std::string condition = parameter.condition.empty() ? "nullptr" : quoted(parameter.condition);
    values += ", softmetal::ArgumentText{" + quoted(parameter.name) + ", " + condition + "}";
  }
  return type + "> softmetal_entry_" + std::to_string(++serial_) + "(" + values + ");";
}

void Lowering::lower_threadgroup_variables(const msl::ThreadgroupVariables& variables) {
  for (const msl::Range& alignment : variables.alignments) erase(alignment);
  const std::string type = tokens_.text(variables.type);
  std::string result;
  for (const msl::ThreadgroupVariables::Variable& variable : variables.variables)
    result += "auto& " + variable.name + " = softmetal::variable<softmetal_kernel, " + quoted(variable.name) +
              ", " + type + " " + source_.text(variable.extents) + ">(softmetal_group); ";
  erase(variables.declaration);
  tokens_.list[variables.keyword].spelling = result;
}

}  // namespace softmetal
