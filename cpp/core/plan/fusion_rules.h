// Which two ops can be one, as a table.
#pragma once

#include <optional>
#include <span>

#include "core/program/program.h"

namespace npu {

struct FusionRule {
  OpKind before, op;
  std::optional<Op> (*join)(const Op& before,
                            const Op& op);  // see joined(); nothing where these two do not fit
};

std::span<const FusionRule> fusion_rules();

}  // namespace npu
