// Function constants and the constants computed from them.
#include <algorithm>

#include "msl/parser.h"

namespace npu::msl {

void Parser::read_defined_queries() {
  for (std::size_t i = 0; i + 3 < source_.tokens.list.size(); ++i) {
    if (!at(i).is("is_function_constant_defined") || !at(i + 1).is("(")) continue;
    if (at(i + 2).kind != Token::word || !at(i + 3).is(")"))
      source_.fail(i, "is_function_constant_defined takes the name of a function constant");
    source_.defined_queries.push_back({{i, i + 4}, at(i + 2).spelling});
    optional_.insert(at(i + 2).spelling);
  }
}

// `constant bool flag [[function_constant(0)]];` or `constant int n = flag ? 1 : 2;`, from begin to past the
// `;`. Constants that depend on none are left alone.
void Parser::read_constant(Range range) {
  for (std::size_t i = range.begin; i < range.end; ++i)
    if (at(i).is("[[") && at(i + 1).is("function_constant")) return read_function_constant(range, i);
  const std::size_t assign = source_.find(range.begin, range.end, "=");
  if (assign == range.end || !depends_on_constants({assign, range.end})) return;
  if (at(assign - 1).is("]"))
    source_.fail(range.begin, "an array computed from function constants is not supported");
  Constant constant;
  constant.declaration = range;
  constant.name = at(assign - 1).spelling;
  constant.type = type_of_constant({range.begin, assign - 1});
  constant.computed = true;
  constant.value = {assign + 1, range.end - 1};
  source_.constants.push_back(std::move(constant));
}

void Parser::read_function_constant(Range range, std::size_t attribute) {
  if (source_.matching(attribute) + 2 != range.end)
    source_.fail(range.begin, "a function constant has no value of its own");
  Constant constant;
  constant.declaration = range;
  constant.name = at(attribute - 1).spelling;
  constant.type = type_of_constant({range.begin, attribute - 1});
  constant.number = {attribute + 3, source_.matching(attribute + 2)};
  constant.required = !optional_.count(constant.name);
  source_.constants.push_back(std::move(constant));
}

std::string Parser::type_of_constant(Range range) const {
  std::string type = source_.text(range);
  for (const std::string word : {"constant ", "static ", "constexpr ", "const "})
    for (std::size_t i; (i = type.find(word)) != std::string::npos;) type.erase(i, word.size());
  return type;
}

bool Parser::depends_on_constants(Range range) const {
  for (std::size_t i = range.begin; i < range.end; ++i) {
    if (at(i).is("is_function_constant_defined")) return true;
    for (const Constant& constant : source_.constants)
      if (at(i).kind == Token::word && at(i).is(constant.name)) return true;
  }
  return false;
}

}  // namespace npu::msl
