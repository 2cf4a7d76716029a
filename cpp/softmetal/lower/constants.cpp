// Function constants and the constants computed from them.
#include "lowering.h"

namespace softmetal {

// `constant bool flag [[function_constant(0)]];` or `constant int n = flag ? 1 : 2;`, from begin to past the
// `;`.
void Lowering::lower_constant(size_t begin, size_t end) {
  for (size_t i = begin; i < end; ++i)
    if (list_[i].is("[[") && list_[i + 1].is("function_constant"))
      return lower_function_constant(begin, i, end);
  size_t assign = find(begin, end, "=");
  if (assign == end || !depends_on_constants(assign, end)) return;

  std::string name = list_[assign - 1].spelling;
  if (list_[assign - 1].is("]")) fail(begin, "an array computed from function constants is not supported");
  std::string type = text(begin, assign - 1), value = text(assign + 1, end - 1);
  for (std::string word : {"constant ", "static ", "constexpr ", "const "})
    for (size_t at; (at = type.find(word)) != std::string::npos;) type.erase(at, word.size());
  constants_.insert(name);
  erase(begin, end);
  std::string serial = std::to_string(++serial_);
  list_[begin].spelling = "static thread_local " + type + " " + name + "{};" +
                          " static softmetal::ConstantRegistration softmetal_constant_" + serial + "((" +
                          type + "*)nullptr, \"" + name +
                          "\", softmetal::kComputed, false, [](const void*) { " + name + " = " + value +
                          "; }, []() -> const void* { return &" + name + "; });";
}

void Lowering::lower_function_constant(size_t begin, size_t attribute, size_t end) {
  size_t close = matching(attribute);
  std::string index = text(attribute + 3, matching(attribute + 2));
  std::string name = list_[attribute - 1].spelling;
  std::string type = text(begin, attribute - 1);
  for (std::string word : {"constant ", "static ", "const "})
    for (size_t at; (at = type.find(word)) != std::string::npos;) type.erase(at, word.size());
  if (close + 2 != end) fail(begin, "a function constant has no value of its own");
  bool required = !optional_constants_.count(name);
  constants_.insert(name);
  erase(begin, end);
  std::string serial = std::to_string(++serial_);
  list_[begin].spelling =
      "static thread_local " + type + " " + name + "{}; static thread_local bool softmetal_defined_" + name +
      "{};" + " static softmetal::ConstantRegistration softmetal_constant_" + serial + "((" + type +
      "*)nullptr, \"" + name + "\", " + index + ", " + (required ? "true" : "false") +
      ", [](const void* value) { softmetal::assign(" + name + ", value); softmetal_defined_" + name +
      " = value != nullptr; }, []() -> const void* { return &" + name + "; });";
}

bool Lowering::depends_on_constants(size_t begin, size_t end) const {
  for (size_t i = begin; i < end; ++i)
    if (constants_.count(list_[i].spelling) || list_[i].spelling.starts_with("softmetal_defined_"))
      return true;
  return false;
}

// is_function_constant_defined(name) asks the flag that is set with the constant.
void Lowering::lower_defined_queries() {
  for (size_t i = 0; i + 3 < list_.size(); ++i) {
    if (!list_[i].is("is_function_constant_defined") || !list_[i + 1].is("(")) continue;
    std::string name = list_[i + 2].spelling;
    optional_constants_.insert(name);
    erase(i, i + 4);
    list_[i].spelling = "softmetal_defined_" + name;
  }
}

}  // namespace softmetal
