// Which elements of a norm belong together.
#pragma once

#include <optional>

#include "core/geometry/nest.h"

namespace npu {

// Layer, RMS and group norms as one: rows that are normalised each on its own, and the elements of a row.
// Both walk y, x, weight and bias; those that are absent do not move.
struct NormCut {
  Nest rows, elements;
};

NormCut cut_norm(const NormAttrs& attrs, const TensorDesc& y, const TensorDesc& x, const TensorDesc& weight,
                 const TensorDesc& bias);

// A group norm of images whose channels lie innermost: pixels are rows of channels.
struct ChannelsLastNorm {
  Nest pixels;  // of y and x, evenly spaced
  std::int64_t images = 0, channels = 0, groups = 1;
  std::int64_t channels_of_group() const { return channels / groups; }
};

// Nothing where the norm is another one, or has so few channels that its rows would be short.
std::optional<ChannelsLastNorm> channels_last_norm(const NormAttrs& attrs, const TensorDesc& y,
                                                   const TensorDesc& x);

}  // namespace npu
