// Operands of convolutions, pooling and resizing in three spatial dimensions, however many they have.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "core/plan/kernel.h"

namespace npu {

using Triple = std::array<std::int64_t, 3>;

// Batch, channels, then the spatial dimensions: missing ones lead, with extent 1 and step 0. An absent
// operand does not move.
struct Image {
  std::int64_t batch = 1, channels = 1;
  Triple extent{1, 1, 1};
  std::int64_t batch_step = 0, channel_step = 0;
  Triple step{0, 0, 0};

  // The offset of an element.
  std::int64_t at(std::int64_t image, std::int64_t channel, const Triple& position) const {
    return image * batch_step + channel * channel_step + position[0] * step[0] + position[1] * step[1] +
           position[2] * step[2];
  }
};

Image image_of(const TensorDesc& operand);

// One number for each spatial dimension, with `missing` for those that lead.
Triple spatial(const std::vector<std::int64_t>& numbers, std::int64_t missing);

// Whether neighbours in memory are channels of one pixel rather than pixels of one row.
bool channels_innermost(const TensorDesc& operand);

}  // namespace npu
