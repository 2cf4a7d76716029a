// Integer constant expressions: conditions of #if, numbers in attributes, enumerators.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "msl/tokens.h"

namespace npu::msl {

// What a name stands for (`kFirst`, `Kind::kOwn`), or nothing.
using Lookup = std::function<std::optional<std::int64_t>(const std::string& name)>;

// Throws a SourceError for a name without a value, a division by zero, and what is no such expression.
std::int64_t evaluate(const Tokens& tokens, Range range, const Lookup& lookup);

}  // namespace npu::msl
