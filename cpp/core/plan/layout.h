// How values lie in memory.
#pragma once

#include <cstdint>
#include <optional>

#include "core/plan/kernel.h"
#include "core/program/program.h"

namespace npu {

enum class Layout : std::uint8_t { kRowMajor, kChannelsLast };

// Whether this op prefers channels innermost in its first operand and its result.
inline bool wants_channels_last(const Op& op) { return info_of(op.kind).layout == LayoutRule::kChannelsLast; }

// Strides of a dense tensor; channels-last puts dimension 1 innermost.
Shape dense_strides(const Shape& shape, Layout layout);

// Whether a tensor of this shape can have channels and spatial positions.
inline bool spatial(const Shape& shape) { return shape.size() >= 3 && shape.size() <= 5; }

struct PhysicalOperand {
  TensorDesc desc;
  std::int64_t offset = 0;  // of the first element, in elements
};

// The operand's strides in a value that lies as `layout` says; nothing when the view cannot be expressed
// there.
std::optional<PhysicalOperand> physical_operand(const Operand& operand, const Value& value, Layout layout);

}  // namespace npu
