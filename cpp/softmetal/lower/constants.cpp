// Function constants and the constants computed from them.
#include "lowering.h"

namespace softmetal {

namespace {

std::string defined_flag(const std::string& name) { return "softmetal_defined_" + name; }

}  // namespace

// is_function_constant_defined(name) asks the flag that is set with the constant.
void Lowering::lower_defined_queries() {
  for (const msl::DefinedQuery& query : source_.defined_queries)
    replace(query.call, defined_flag(query.name));
}

void Lowering::lower_constant(const msl::Constant& constant) {
  const std::string text = constant.computed ? computed_constant(constant) : function_constant(constant);
  replace(constant.declaration, text);
}

std::string Lowering::computed_constant(const msl::Constant& constant) {
  const std::string &type = constant.type, &name = constant.name;
  return "static thread_local " + type + " " + name + "{};" +
         " static softmetal::ConstantRegistration softmetal_constant_" + std::to_string(++serial_) + "((" +
         type + "*)nullptr, \"" + name + "\", softmetal::kComputed, false, [](const void*) { " + name +
         " = " + tokens_.text(constant.value) + "; }, []() -> const void* { return &" + name + "; });";
}

std::string Lowering::function_constant(const msl::Constant& constant) {
  const std::string &type = constant.type, &name = constant.name, defined = defined_flag(name);
  return "static thread_local " + type + " " + name + "{}; static thread_local bool " + defined + "{};" +
         " static softmetal::ConstantRegistration softmetal_constant_" + std::to_string(++serial_) + "((" +
         type + "*)nullptr, \"" + name + "\", " + source_.text(constant.number) + ", " +
         (constant.required ? "true" : "false") + ", [](const void* value) { softmetal::assign(" + name +
         ", value); " + defined + " = value != nullptr; }, []() -> const void* { return &" + name + "; });";
}

}  // namespace softmetal
