#include "lower.h"

#include "lowering.h"
#include "msl/literals.h"

namespace softmetal {

std::string lower(const std::string& preprocessed, const std::string& name) {
  return Lowering(msl::parse(msl::Tokens(preprocessed, name))).run();
}

std::string Lowering::run() {
  lower_literals();
  lower_defined_queries();
  for (const msl::Constant& constant : source_.constants) lower_constant(constant);
  for (const msl::Kernel& kernel : source_.kernels) lower_kernel(kernel);
  for (const msl::Instantiation& instance : source_.instantiations) lower_instantiation(instance);
  return "#include <metal_stdlib>\n" + tokens_.joined() + "\n";
}

void Lowering::lower_literals() {
  using Type = msl::FloatLiteral::Type;
  for (msl::Token& token : tokens_.list) {
    if (token.kind != msl::Token::number || !msl::is_float_literal(token.spelling)) continue;
    const auto [type, digits] = msl::float_literal(token.spelling);
    token.spelling = type == Type::kBfloat ? "bfloat(" + digits + "f)"
                     : type == Type::kHalf ? digits + "f16"
                                           : digits + "f";
  }
}

void Lowering::erase(msl::Range range) {
  for (size_t i = range.begin; i < range.end; ++i) tokens_.list[i].spelling.clear();
}

void Lowering::replace(msl::Range range, const std::string& text) {
  erase(range);
  tokens_.list[range.begin].spelling = text;
}

}  // namespace softmetal
