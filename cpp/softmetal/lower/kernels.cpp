// Kernel functions, their instantiations and their threadgroup variables.
#include <array>
#include <string_view>

#include "lowering.h"

namespace softmetal {

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

std::string quoted(const std::string& s) { return "\"" + s + "\""; }

}  // namespace

// `marker` is the word kernel or the attribute that holds it; `begin` is behind any template list.
size_t Lowering::lower_kernel(size_t begin, size_t marker, bool is_template) {
  KernelFunction kernel;
  kernel.is_template = is_template;
  if (list_[marker].is("kernel")) erase(marker, marker + 1);
  size_t open = begin;
  for (; !list_[open].is("("); ++open) {
    if (list_[open].kind == Token::end || list_[open].is(";"))
      fail(marker, "a kernel needs a parameter list");
    if (list_[open].is("[[")) open = matching(open);
  }
  size_t close = matching(open);
  lower_attributes(begin, open, kernel);
  kernel.name = list_[open - 1].spelling;
  if (list_[open - 1].is(">"))
    fail(open, "specialisations of kernels are not supported: instantiate a template");
  if (find(begin, open, "void") == open) fail(open, "kernel " + kernel.name + " must return void");

  for (size_t at = open + 1; at < close;) {
    size_t comma = find(at, close, ",");
    kernel.parameters.push_back(lower_parameter(at, comma));
    at = comma + 1;
  }
  list_[open].spelling +=
      kernel.parameters.empty() ? "softmetal::Group& softmetal_group" : "softmetal::Group& softmetal_group, ";
  size_t body = close + 1;
  while (!list_[body].is("{") && !list_[body].is(";")) ++body;
  lower_attributes(close + 1, body, kernel);
  if (list_[body].is(";")) return body + 1;

  size_t end = matching(body);
  lower_threadgroup_variables(body + 1, end);
  list_[body].spelling +=
      " struct softmetal_kernel {}; if (softmetal::measures<softmetal_kernel>(softmetal_group)) return;";
  if (kernels_.count(kernel.name) && !kernels_[kernel.name].parameters.empty())
    fail(open - 1, "two kernels are called " + kernel.name);
  kernels_[kernel.name] = kernel;
  if (!is_template) list_[end].spelling += registration(kernel, kernel.name);
  return end + 1;
}

// Removes MSL's attributes of a kernel and keeps what they say.
void Lowering::lower_attributes(size_t begin, size_t end, KernelFunction& kernel) {
  for (size_t i = begin; i < end; ++i) {
    if (!list_[i].is("[[")) continue;
    size_t close = matching(i);
    for (size_t at = i + 1; at < close; ++at) {
      if (list_[at].is("host_name")) kernel.host_name = text(at + 2, matching(at + 1));
      if (list_[at].is("max_total_threads_per_threadgroup"))
        kernel.max_threads = text(at + 2, matching(at + 1));
    }
    erase(i, close + 1);
    i = close;
  }
}

KernelParameter Lowering::lower_parameter(size_t begin, size_t end) {
  KernelParameter parameter;
  for (size_t i = begin; i < end; ++i) {
    if (!list_[i].is("[[")) continue;
    size_t close = matching(i);
    for (size_t at = i + 1; at + 1 < close;) {
      size_t comma = find(at, close - 1, ",");
      read_parameter_attribute(at, comma, parameter);
      at = comma + 1;
    }
    erase(i, close + 1);
    i = close;
  }
  for (size_t i = begin; i < end; ++i)
    if (list_[i].kind == Token::word && !list_[i].spelling.empty()) parameter.name = list_[i].spelling;
  if (parameter.code.empty())
    fail(begin, "parameter " + parameter.name +
                    " needs an attribute: [[buffer(n)]], [[threadgroup(n)]] or an input");
  return parameter;
}

void Lowering::read_parameter_attribute(size_t begin, size_t end, KernelParameter& parameter) {
  const std::string& name = list_[begin].spelling;
  std::string value = list_[begin + 1].is("(") ? text(begin + 2, matching(begin + 1)) : "";
  std::string source =
      "softmetal::code(softmetal::Source::" + (name == "threadgroup" ? "threadgroup_memory" : name);
  if (name == "buffer" || name == "threadgroup") {
    parameter.code = source + ", " + value + ")";
    return;
  }
  if (name == "function_constant") {
    parameter.condition = value;
    return;
  }
  for (std::string_view input : kThreadInputs)
    if (name == input) {
      parameter.code = source + ")";
      return;
    }
  fail(begin, "attribute " + text(begin, end) + " of a kernel parameter is not known here");
}

// `template [[host_name("x")]] [[kernel]] void f<float>(...);` or `... decltype(f<float>) f<float>;`
size_t Lowering::lower_instantiation(size_t begin) {
  size_t stop = skip_declaration(begin);
  KernelFunction instance;
  lower_attributes(begin, stop, instance);
  size_t at = begin + 1;
  while (list_[at].spelling.empty() || list_[at].is("kernel")) ++at;
  size_t name_begin = at + 1, name_end = 0;
  if (list_[at].is("decltype")) {
    name_begin = at + 2;
    name_end = matching(at + 1);
  } else if (list_[at].is("void")) {
    while (!list_[name_begin].is("<")) ++name_begin;
    name_end = after_template_list(name_begin);
    do --name_begin;
    while (name_begin > at + 1 && (list_[name_begin - 1].is("::") || list_[name_begin].is("::")));
  }
  size_t base = name_begin;
  while (base < name_end && !list_[base].is("<")) ++base;
  auto entry = name_end ? kernels_.find(list_[base - 1].spelling) : kernels_.end();
  if (entry == kernels_.end()) {
    if (!instance.host_name.empty()) fail(begin, "an instantiation of something that is no kernel template");
    return stop;
  }
  KernelFunction kernel = entry->second;
  if (instance.host_name.empty()) fail(begin, "an instantiation of a kernel needs [[host_name(\"...\")]]");
  kernel.host_name = instance.host_name;
  if (instance.max_threads != "0") kernel.max_threads = instance.max_threads;
  std::string function = text(name_begin, name_end);
  erase(begin, stop);
  list_[stop - 1].spelling = registration(kernel, function);
  return stop;
}

std::string Lowering::registration(const KernelFunction& kernel, const std::string& function) {
  std::string type = " static softmetal::KernelRegistration<&" + function;
  std::string values = kernel.host_name.empty() ? quoted(kernel.name) : kernel.host_name;
  values += ", " + kernel.max_threads;
  for (const KernelParameter& parameter : kernel.parameters) {
    type += ", " + parameter.code;
    std::string condition = parameter.condition.empty() ? "nullptr" : quoted(parameter.condition);
    values += ", softmetal::ArgumentText{" + quoted(parameter.name) + ", " + condition + "}";
  }
  return type + "> softmetal_entry_" + std::to_string(++serial_) + "(" + values + ");";
}

void Lowering::lower_threadgroup_variables(size_t begin, size_t end) {
  size_t next = begin;  // after a variable that was lowered, whose ";" is gone
  for (size_t i = begin; i < end; ++i) {
    const std::string& before = list_[i - 1].spelling;
    bool starts = i == next || before == ";" || before == "{" || before == "}" || before == ")";
    if (!starts) continue;
    size_t at = i;
    while (list_[at].is("alignas") || list_[at].is("[[")) at = matching(list_[at].is("[[") ? at : at + 1) + 1;
    if (!list_[at].is("threadgroup")) continue;
    erase(i, at);
    i = lower_threadgroup_variable(at);
    next = i + 1;
  }
}

// `threadgroup T name[n][m], other;` - pointers and references to threadgroup memory stay as they are.
size_t Lowering::lower_threadgroup_variable(size_t begin) {
  size_t stop = find(begin, list_.size() - 1, ";");
  size_t name = begin + 1;
  int depth = 0;  // of template arguments
  for (; name < stop; ++name) {
    const Token& token = list_[name];
    if (token.is("<")) ++depth;
    if (token.is(">")) --depth;
    if (depth > 0) continue;
    if (token.is("alignas")) {
      size_t close = matching(name + 1);
      erase(name, close + 1);
      name = close;
      continue;
    }
    if (token.is("*") || token.is("&") || token.is("(")) return stop;
    const Token& next = list_[name + 1];
    if (token.kind == Token::word &&
        (next.is("[") || next.is("[[") || next.is(";") || next.is(",") || next.is("=")))
      break;
  }
  std::string type = text(begin + 1, name), result;
  for (size_t at = name; at < stop;) {
    size_t comma = find(at, stop, ",");
    if (find(at, comma, "=") != comma) fail(at, "a threadgroup variable has no initial value");
    std::string variable = list_[at].spelling;
    result += "auto& " + variable + " = softmetal::variable<softmetal_kernel, " + quoted(variable) + ", " +
              type + " " + text(at + 1, comma) + ">(softmetal_group); ";
    at = comma + 1;
  }
  erase(begin, stop + 1);
  list_[begin].spelling = result;
  return stop;
}

}  // namespace softmetal
