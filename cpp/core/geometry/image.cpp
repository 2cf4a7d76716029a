#include "core/geometry/image.h"

#include <algorithm>
#include <cstdlib>

namespace npu {

Image image_of(const TensorDesc& operand) {
  Image image;
  if (!operand.present()) return image;
  image.batch = operand.shape[0];
  image.channels = operand.shape[1];
  image.batch_step = operand.strides[0];
  image.channel_step = operand.strides[1];
  const std::size_t missing = 5 - operand.shape.size();
  for (std::size_t d = missing; d < 3; ++d) {
    image.extent[d] = operand.shape[d + 2 - missing];
    image.step[d] = operand.strides[d + 2 - missing];
  }
  return image;
}

Triple spatial(const std::vector<std::int64_t>& numbers, std::int64_t missing) {
  Triple all{missing, missing, missing};
  std::copy(numbers.begin(), numbers.end(), all.end() - static_cast<std::ptrdiff_t>(numbers.size()));
  return all;
}

bool channels_innermost(const TensorDesc& operand) {
  const std::size_t last = operand.shape.size() - 1;
  const bool single = operand.shape[last] == 1;  // then its step says nothing
  return operand.shape[1] > 1 && (single || std::abs(operand.strides[1]) < std::abs(operand.strides[last]));
}

}  // namespace npu
