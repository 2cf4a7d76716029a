// Function constants and the constants computed from them.
#include <algorithm>

#include "msl/error.h"
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
  if (assign == range.end) return;
  if (!depends_on_constants({assign, range.end})) return read_numbers(range);
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

// `constant constexpr int a = 1, b = 2 * a;`: numbers that attributes may name.
void Parser::read_numbers(Range range) {
  for (std::size_t i = range.begin; i + 1 < range.end;) {
    const std::size_t comma = source_.find(i, range.end - 1, ",");
    const std::size_t assign = source_.find(i, comma, "=");
    if (assign < comma && assign > i && at(assign - 1).kind == Token::word)
      evaluate_number(at(assign - 1).spelling, {assign + 1, comma});
    i = comma + 1;
  }
}

// `enum class Kind : int { kOne = 1, kTwo };`
void Parser::read_enumerators(Range range) {
  std::size_t i = range.begin + 1;
  const bool scoped = at(i).is("class") || at(i).is("struct");
  if (scoped) ++i;
  const std::string prefix = scoped ? at(i).spelling + "::" : "";
  const std::size_t open = source_.find(range.begin, range.end, "{");
  if (open == range.end) return;
  const std::size_t close = source_.matching(open);
  std::string last;
  for (i = open + 1; i < close;) {
    const std::size_t comma = source_.find(i, close, ",");
    const std::string name = prefix + at(i).spelling;
    if (at(i + 1).is("=")) {
      evaluate_number(name, {i + 2, comma});
    } else if (last.empty()) {
      add_number(name, 0);
    } else if (source_.numbers.count(last)) {
      add_number(name, source_.numbers[last] + 1);
    }
    last = name;
    i = comma + 1;
  }
}

// What is no integer, or depends on what is not known here, has no number.
void Parser::evaluate_number(const std::string& name, Range value) {
  try {
    add_number(name, source_.number(value));
  } catch (const SourceError&) {
  }
}

void Parser::add_number(const std::string& name, std::int64_t value) {
  const auto [entry, added] = source_.numbers.emplace(name, value);
  if (!added && entry->second != value) ambiguous_.insert(name);
  if (ambiguous_.count(name)) source_.numbers.erase(name);
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
