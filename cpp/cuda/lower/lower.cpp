#include "cuda/lower/lower.h"

#include <algorithm>
#include <array>

#include "cuda/lower/lowering.h"
#include "msl/literals.h"
#include "msl/preprocessor.h"

namespace npu::cuda {

namespace {

constexpr std::array<std::string_view, 3> kAddressSpaces{"device", "thread", "threadgroup"};

// What is left of a pragma; see lower.h.
std::string kept_pragma(const std::string& text) { return text == "clang loop unroll(full)" ? "unroll" : ""; }

bool is_swizzle(std::string_view word) {
  return word.size() >= 2 && word.size() <= 4 && word.find_first_not_of("xyzw") == std::string_view::npos;
}

}  // namespace

Lowered lower(std::string_view text, const std::string& name, const FindFile& find) {
  msl::PreprocessOptions options;
  options.macros = {
      {"__METAL__", "1"}, {"__METAL_VERSION__", "310"}, {"__HAVE_BFLOAT__", "1"}, {"NPU_CUDA", "1"}};
  options.include = [&](const std::string& file, bool angled) -> std::optional<std::string> {
    if (angled && file.starts_with("metal_")) return "";  // what ../msl stands for
    return angled ? std::nullopt : find(file);
  };
  options.pragma = kept_pragma;
  Lowered result = Lowering(msl::parse(msl::preprocess(text, name, options))).run();
  result.name = name;
  return result;
}

Lowered Lowering::run() {
  lower_words();
  lower_constants();
  for (const msl::Kernel& kernel : source_.kernels) lower_kernel(kernel);
  for (const msl::Instantiation& instance : source_.instantiations) {
    add_kernel(source_.kernels[instance.kernel], instance.host_name, instance.scope + instance.function);
    erase(instance.declaration);
  }
  result_.text = msl::with_lines(tokens_);
  return std::move(result_);
}

void Lowering::lower_words() {
  for (std::size_t i = 0; tokens_.list[i].kind != msl::Token::end; ++i) {
    msl::Token& token = tokens_.list[i];
    if (token.kind == msl::Token::number) lower_literal(token);
    if (token.kind != msl::Token::word) continue;
    if (i > 0 && source_.at(i - 1).is(".") && is_swizzle(token.spelling)) {
      lower_swizzle(i);
    } else if (token.is("constant")) {
      token.spelling = "const";
    } else if (token.is("inline")) {
      lower_inline(i);
    } else if (std::find(kAddressSpaces.begin(), kAddressSpaces.end(), token.spelling) !=
               kAddressSpaces.end()) {
      token.spelling.clear();
    }
  }
}

// v.xy is read by a call; writing to it would be lost.
void Lowering::lower_swizzle(std::size_t word) {
  const msl::Token& next = source_.at(word + 1);
  if (next.is("(")) return;
  const msl::Token& after = source_.at(word + 2);
  const bool joined = after.is("=") && after.space.empty();
  const bool assigns = next.is("=") && !joined;
  const bool updates = joined && std::string_view("+-*/%&|^").find(next.spelling) != std::string_view::npos;
  if (assigns || updates)
    source_.fail(word, "a swizzle that is assigned to is not supported: assign to its elements");
  tokens_.list[word].spelling += "()";
}

void Lowering::lower_inline(std::size_t word) {
  const msl::Token& next = source_.at(word + 1);
  if (!next.is("namespace") && !next.is("constexpr")) tokens_.list[word].spelling = "__forceinline__";
}

void Lowering::lower_literal(msl::Token& token) {
  using Type = msl::FloatLiteral::Type;
  if (!msl::is_float_literal(token.spelling)) return;
  const auto [type, digits] = msl::float_literal(token.spelling);
  token.spelling = type == Type::kBfloat ? "bfloat(" + digits + "f)"
                   : type == Type::kHalf ? "half(" + digits + "f)"
                                         : digits + "f";
}

void Lowering::erase(msl::Range range) {
  for (std::size_t i = range.begin; i < range.end; ++i) tokens_.list[i].spelling.clear();
}

void Lowering::replace(msl::Range range, const std::string& text) {
  erase(range);
  tokens_.list[range.begin].spelling = text;
}

}  // namespace npu::cuda
