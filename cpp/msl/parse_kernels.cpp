// Kernel functions, their parameters, their instantiations and their threadgroup variables.
#include <algorithm>
#include <array>
#include <string_view>

#include "msl/parser.h"

namespace npu::msl {

namespace {

constexpr std::array<std::string_view, 14> kThreadInputs{
    "thread_position_in_grid",        "threadgroup_position_in_grid",
    "thread_position_in_threadgroup", "thread_index_in_threadgroup",
    "thread_index_in_simdgroup",      "simdgroup_index_in_threadgroup",
    "threads_per_threadgroup",        "dispatch_threads_per_threadgroup",
    "threadgroups_per_grid",          "threads_per_grid",
    "threads_per_simdgroup",          "simdgroups_per_threadgroup",
    "thread_index_in_quadgroup",      "quadgroup_index_in_threadgroup",
};

}  // namespace

// `marker` is the word kernel or the attribute that holds it; `begin` is behind any template list.
std::size_t Parser::read_kernel(std::size_t begin, std::size_t marker, bool is_template) {
  Kernel kernel;
  kernel.scope = scope_;
  kernel.is_template = is_template;
  if (at(marker).is("kernel")) kernel.attributes.push_back({marker, marker + 1});
  std::size_t open = begin;
  for (; !at(open).is("("); ++open) {
    if (at(open).kind == Token::end || at(open).is(";"))
      source_.fail(marker, "a kernel needs a parameter list");
    if (at(open).is("[[")) open = source_.matching(open);
  }
  const std::size_t close = source_.matching(open);
  kernel.head = {begin, open};
  kernel.open = open;
  kernel.close = close;
  const auto add_attributes = [&](Range range) {
    for (const Range& attribute : read_attributes(range, kernel)) kernel.attributes.push_back(attribute);
  };
  add_attributes(kernel.head);
  kernel.name = at(open - 1).spelling;
  if (at(open - 1).is(">"))
    source_.fail(open, "specialisations of kernels are not supported: instantiate a template");
  if (source_.find(begin, open, "void") == open)
    source_.fail(open, "kernel " + kernel.name + " must return void");

  for (std::size_t i = open + 1; i < close;) {
    const std::size_t comma = source_.find(i, close, ",");
    kernel.parameters.push_back(read_parameter({i, comma}));
    i = comma + 1;
  }
  std::size_t body = close + 1;
  while (!at(body).is("{") && !at(body).is(";")) ++body;
  add_attributes({close + 1, body});
  if (at(body).is(";")) {
    source_.kernels.push_back(std::move(kernel));
    return body + 1;
  }
  kernel.body = {body, source_.matching(body) + 1};
  read_threadgroup_variables(kernel.body, kernel);
  const std::size_t past = kernel.body.end;
  add_kernel(std::move(kernel));
  return past;
}

// The table of kernels has one of a name that has a body.
void Parser::add_kernel(Kernel kernel) {
  for (const Kernel& other : source_.kernels) {
    if (other.name == kernel.name && other.body.end != 0)
      source_.fail(kernel.open - 1, "two kernels are called " + kernel.name);
  }
  source_.kernels.push_back(std::move(kernel));
}

// The attributes in a range; what MSL's own say of a kernel or an instantiation is kept.
template <class Declared>
std::vector<Range> Parser::read_attributes(Range range, Declared& declared) const {
  std::vector<Range> attributes;
  for (std::size_t i = range.begin; i < range.end; ++i) {
    if (!at(i).is("[[")) continue;
    const std::size_t close = source_.matching(i);
    for (std::size_t k = i + 1; k < close; ++k) {
      const bool valued = at(k + 1).is("(");
      if (valued && at(k).is("host_name"))
        declared.host_name = source_.text({k + 2, source_.matching(k + 1)});
      if (valued && at(k).is("max_total_threads_per_threadgroup"))
        declared.max_threads = source_.text({k + 2, source_.matching(k + 1)});
    }
    attributes.push_back({i, close + 1});
    i = close;
  }
  return attributes;
}

Parameter Parser::read_parameter(Range range) const {
  Parameter parameter;
  parameter.declaration = range;
  bool known = false;
  for (std::size_t i = range.begin; i < range.end; ++i) {
    if (at(i).kind == Token::word) parameter.name = at(i).spelling;
    if (!at(i).is("[[")) continue;
    const std::size_t close = source_.matching(i);  // the second of the two brackets
    for (std::size_t k = i + 1; k + 1 < close;) {
      const std::size_t comma = source_.find(k, close - 1, ",");
      read_parameter_attribute({k, comma}, parameter);
      known = known || !at(k).is("function_constant");
      k = comma + 1;
    }
    parameter.attributes.push_back({i, close + 1});
    i = close;
  }
  if (!known)
    source_.fail(range.begin, "parameter " + parameter.name +
                                  " needs an attribute: [[buffer(n)]], [[threadgroup(n)]] or an input");
  return parameter;
}

void Parser::read_parameter_attribute(Range range, Parameter& parameter) const {
  const std::string& name = at(range.begin).spelling;
  const bool valued = range.begin + 1 < range.end && at(range.begin + 1).is("(");
  const Range value = valued ? Range{range.begin + 2, source_.matching(range.begin + 1)} : Range{};
  if (name == "buffer" || name == "threadgroup") {
    if (value.begin == value.end) source_.fail(range.begin, "attribute " + name + " needs a number");
    parameter.kind = name == "buffer" ? Parameter::Kind::kBuffer : Parameter::Kind::kThreadgroup;
    parameter.number = value;
  } else if (name == "function_constant") {
    parameter.condition = source_.text(value);
  } else if (std::find(kThreadInputs.begin(), kThreadInputs.end(), name) != kThreadInputs.end()) {
    parameter.kind = Parameter::Kind::kInput;
    parameter.input = name;
  } else {
    source_.fail(range.begin,
                 "attribute " + source_.text(range) + " of a kernel parameter is not known here");
  }
}

// `template [[host_name("x")]] [[kernel]] void f<float>(...);` or `... decltype(f<float>) f<float>;`
std::size_t Parser::read_instantiation(std::size_t begin) {
  Instantiation instance;
  instance.declaration = {begin, past_declaration(begin)};
  instance.scope = scope_;
  read_attributes(instance.declaration, instance);
  const Range name = instantiated_name(begin);
  std::size_t base = name.begin;
  while (base < name.end && !at(base).is("<")) ++base;
  const auto entry =
      std::find_if(source_.kernels.rbegin(), source_.kernels.rend(), [&](const Kernel& kernel) {
        return name.end != 0 && kernel.body.end != 0 && kernel.name == at(base - 1).spelling;
      });
  if (entry == source_.kernels.rend()) {
    if (!instance.host_name.empty())
      source_.fail(begin, "an instantiation of something that is no kernel template");
    return instance.declaration.end;
  }
  if (instance.host_name.empty())
    source_.fail(begin, "an instantiation of a kernel needs [[host_name(\"...\")]]");
  instance.kernel = static_cast<std::size_t>(source_.kernels.rend() - entry) - 1;
  instance.function = source_.text(name);
  if (instance.max_threads.empty()) instance.max_threads = entry->max_threads;
  source_.instantiations.push_back(std::move(instance));
  return source_.instantiations.back().declaration.end;
}

// f<float>, with the namespaces that are written before it; empty where there is none.
Range Parser::instantiated_name(std::size_t begin) const {
  std::size_t i = begin + 1;
  for (;; ++i) {
    if (at(i).is("[["))
      i = source_.matching(i);
    else if (!at(i).is("kernel"))
      break;
  }
  if (at(i).is("decltype") && at(i + 1).is("(")) return {i + 2, source_.matching(i + 1)};
  if (!at(i).is("void")) return {};
  std::size_t first = i + 1;
  while (!at(first).is("<") && !at(first).is(";") && at(first).kind != Token::end) ++first;
  if (!at(first).is("<")) return {};
  const std::size_t past = past_template_list(first);
  do --first;
  while (first > i + 1 && (at(first - 1).is("::") || at(first).is("::")));
  return {first, past};
}

void Parser::read_threadgroup_variables(Range body, Kernel& kernel) const {
  std::size_t next = body.begin + 1;  // after a variable, whose `;` is its own
  for (std::size_t i = body.begin + 1; i + 1 < body.end; ++i) {
    const std::string& before = at(i - 1).spelling;
    const bool starts = i == next || before == ";" || before == "{" || before == "}" || before == ")";
    if (!starts) continue;
    std::size_t keyword = i;
    while (at(keyword).is("alignas") || at(keyword).is("[["))
      keyword = source_.matching(at(keyword).is("[[") ? keyword : keyword + 1) + 1;
    if (!at(keyword).is("threadgroup")) continue;
    i = read_threadgroup_variable({i, keyword}, kernel);
    next = i + 1;
  }
}

// `threadgroup T name[n][m], other;` - pointers and references to threadgroup memory are no variables of it.
// Returns where the `;` is. `start` is what stands before the keyword.
std::size_t Parser::read_threadgroup_variable(Range start, Kernel& kernel) const {
  ThreadgroupVariables result;
  result.keyword = start.end;
  const std::size_t stop = source_.find(result.keyword, source_.tokens.list.size() - 1, ";");
  result.declaration = {start.begin, stop + 1};
  std::size_t name = result.keyword + 1;
  int depth = 0;  // of template arguments
  for (; name < stop; ++name) {
    const Token& token = at(name);
    if (token.is("<")) ++depth;
    if (token.is(">")) --depth;
    if (depth > 0) continue;
    if (token.is("alignas")) {
      const std::size_t close = source_.matching(name + 1);
      result.alignments.push_back({name, close + 1});
      name = close;
      continue;
    }
    if (token.is("*") || token.is("&") || token.is("(")) return stop;
    const Token& next = at(name + 1);
    if (token.kind == Token::word &&
        (next.is("[") || next.is("[[") || next.is(";") || next.is(",") || next.is("=")))
      break;
  }
  result.type = {result.keyword + 1, name};
  for (std::size_t i = name; i < stop;) {
    const std::size_t comma = source_.find(i, stop, ",");
    if (source_.find(i, comma, "=") != comma) source_.fail(i, "a threadgroup variable has no initial value");
    result.variables.push_back({at(i).spelling, {i + 1, comma}});
    i = comma + 1;
  }
  kernel.threadgroup_variables.push_back(std::move(result));
  return stop;
}

}  // namespace npu::msl
